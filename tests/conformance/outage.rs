//! Servers that go away and come back.

use rstest::rstest;

use crate::servers::Server;

#[rstest]
#[tokio::test]
async fn a_server_that_was_stopped_has_what_it_had(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
) {
    let mut cluster = server.own_cluster().await;
    let before = cluster.config_map("a").await.unwrap();
    cluster.stop();
    cluster.config_maps().get("a").await.unwrap_err();
    cluster.start().await;
    let after = cluster.config_maps().get("a").await.unwrap();
    assert_eq!(before.metadata, after.metadata);
}
