//! Groups of two accounts: a throttled account does not delay the other.

use super::*;
use crate::names::Quota;

const THEIRS: &str = "210987654321";

/// A world with a waiting pod behind a group of another account, and, a second later, one behind ours.
fn two_accounts() -> World {
    let mut world = World::new();
    let mut theirs = binding("theirs");
    theirs.arn = Some(theirs_arn());
    world.bind(theirs);
    world.see(waiting("theirs", "10.0.1.1"));
    world.pass(S);
    world.see(waiting("web", "10.0.0.1"));
    world
}

/// A due pod that has one gate.
fn waiting(gate: &str, ip: &str) -> Pod {
    let pod = pod(&format!("{gate}-1")).label("app", "web");
    pod.gate(gate).ip(ip).ready()
}

fn theirs_arn() -> crate::names::TargetGroupArn {
    let ours = arn("theirs");
    let theirs = ours.as_str().replace(ours.account(), THEIRS);
    theirs.parse().unwrap()
}

impl World {
    /// The due groups in the order of their rank, as far as the budget of their account grants a call.
    fn turns(&mut self, throttled: &[Quota], spent: &str) -> (Vec<String>, Option<Instant>) {
        let throttled = throttled.iter().cloned().collect();
        let started = self.tracker.start_calls(&throttled, self.now, |turn| {
            match turn.quota.account() == spent {
                true => Err(self.now + 10 * S),
                false => Ok(()),
            }
        });
        let name = |call: Call| call.group.arn.name().to_owned();
        let names = started.calls.into_iter().map(name).collect();
        (names, started.again)
    }
}

#[test]
fn a_group_that_is_allowed_no_call_holds_up_none_of_another_account() {
    let mut world = two_accounts();
    let (calls, again) = world.turns(&[], THEIRS);
    assert_eq!(calls, ["web"]);
    assert_eq!(again, Some(world.now + S / 4));
}

#[test]
fn groups_of_a_throttled_account_come_last() {
    let mut world = two_accounts();
    let theirs = Quota::of(&theirs_arn());
    assert_eq!(world.turns(&[theirs], "").0, ["web", "theirs"]);
    let mut world = two_accounts();
    assert_eq!(world.turns(&[], "").0, ["theirs", "web"]);
}

#[test]
fn each_turn_tells_how_many_groups_of_its_account_wait() {
    let mut world = two_accounts();
    world.bind(binding("api"));
    world.see(waiting("api", "10.0.0.2"));
    let mut groups = vec![];
    let throttled = BTreeSet::new();
    world.tracker.start_calls(&throttled, world.now, |turn| {
        groups.push((turn.quota.account() == THEIRS, turn.groups));
        Ok(())
    });
    assert_eq!(groups, [(true, 1), (false, 2), (false, 1)]);
}
