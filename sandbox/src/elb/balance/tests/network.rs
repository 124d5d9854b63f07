//! Tests as a Network Load Balancer.

use super::*;

async fn nlb() -> World {
    let spec = TargetGroupSpec::tcp("tcp");
    let delays = Delays::nlb().scaled(0.005);
    World::new(LoadBalancerKind::Network, spec, delays).await
}

async fn connect(world: &World) -> TcpStream {
    TcpStream::connect(world.address).await.unwrap()
}

/// Sends `ping` and returns the reply; an error if the connection was reset.
async fn ping(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut buffer = vec![0; 64];
    stream.write_all(b"ping").await?;
    let length = within(stream.read(&mut buffer)).await?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

#[tokio::test]
async fn bytes_go_both_ways_once_the_target_passed_its_checks() {
    let world = nlb().await;
    let pod = target(Behaviour::Answers("pong".to_owned())).await;
    world.register(pod);
    world
        .until(pod, |health| health == Some(Health::healthy()))
        .await;
    let mut client = connect(&world).await;
    assert_eq!(ping(&mut client).await.unwrap(), "pong");
    assert_eq!(ping(&mut client).await.unwrap(), "pong");
    drop(client);
    world
        .until_traffic(Traffic {
            answered: 1,
            ..Traffic::default()
        })
        .await;
}

#[tokio::test]
async fn a_connection_without_a_target_is_reset() {
    let world = nlb().await;
    let mut client = connect(&world).await;
    assert!(ping(&mut client).await.is_err());
    world
        .until_traffic(Traffic {
            no_target: 1,
            ..Traffic::default()
        })
        .await;
}

#[tokio::test]
async fn a_connection_that_the_target_refuses_is_reset() {
    let world = nlb().await;
    let (_bound, nobody) = nobody();
    world.in_service(nobody);
    let mut client = connect(&world).await;
    assert!(ping(&mut client).await.is_err());
    world
        .until_traffic(Traffic {
            refused: 1,
            ..Traffic::default()
        })
        .await;
}

#[tokio::test]
async fn a_connection_outlives_the_deregistration_and_ends_with_the_delay() {
    let world = nlb().await;
    let old = target(Behaviour::Answers("old".to_owned())).await;
    world.in_service(old);
    let mut client = connect(&world).await;
    assert_eq!(ping(&mut client).await.unwrap(), "old");
    world.deregister(old);
    let draining = Some(Health::draining());
    assert_eq!(world.elb.health(&world.arn, old.ip(), old.port()), draining);
    assert_eq!(ping(&mut client).await.unwrap(), "old");
    world.until(old, |health| health.is_none()).await;
    let mut byte = [0];
    assert!(within(client.read(&mut byte)).await.is_err(), "reset");
    world
        .until_traffic(Traffic {
            reset: 1,
            ..Traffic::default()
        })
        .await;
}

#[tokio::test]
async fn traffic_for_a_load_balancer_that_does_not_exist_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let elb = Elb::new(Options::default());
    let error = elb.balance("nothing", listener, std::future::pending());
    let error = within(error).await.unwrap_err();
    let expected = "there is no load balancer with the ARN 'nothing' here; create it first";
    assert_eq!(error.to_string(), expected);
}
