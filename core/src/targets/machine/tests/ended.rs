//! Targets whose pods have ended.

use super::*;

#[test]
fn a_replica_that_does_not_lead_keeps_the_ended_targets_that_a_record_names_and_few_others() {
    let mut world = with_pods(3);
    world.registrar.follow();
    let end = |world: &mut World, number: u8, ip: String| {
        let pod = pod(&format!("web-{number}")).label("app", "web").ip(&ip);
        world.apply(pod.clone().ready());
        world.apply(Pod {
            terminating: true,
            ..pod
        });
    };
    end(&mut world, 3, "10.0.0.3".to_owned());
    for number in 0..3_000 {
        end(
            &mut world,
            200,
            format!("10.1.{}.{}", number / 250, number % 250),
        );
    }
    let group = &world.registrar.groups[&arn("web")];
    assert!(group.ended.len() <= 1_001, "{}", group.ended.len());
    assert!(group.ended.contains(&target(3)));
}
