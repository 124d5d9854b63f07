//! The time that looks at idle groups take to come round.

use super::*;

#[test]
fn beyond_sixty_groups_idle_looks_take_a_second_of_each_group_to_come_round() {
    let mut world = with_pods(1);
    assert_eq!(world.registrar.look_interval(), 60 * S);
    for number in 0..99 {
        let name = format!("more-{number}");
        world.bind(Binding {
            uid: Some(format!("uid-{name}").into()),
            service: "web".into(),
            ..binding(&name).of_group(&name)
        });
    }
    // Bindings that are not ours cost no look.
    for number in 0..50 {
        let name = format!("other-{number}");
        let mut other = binding(&name).of_group(&name);
        other.uid = Some(format!("uid-{name}").into());
        other.registration.asked = Some(false);
        world.bind(other);
    }
    world.pass(120 * S);
    assert_eq!(world.registrar.look_interval(), 100 * S);
    world.descriptions.clear();
    world.pass(1_000 * S);
    let looks = world.descriptions.len();
    assert!((950..=1_050).contains(&looks), "{looks} in 1,000 s");
    world.registrar.follow();
    assert_eq!(world.registrar.look_interval(), Duration::ZERO);
}
