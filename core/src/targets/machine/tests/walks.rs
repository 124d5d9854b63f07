//! Walks by chance through what can happen to a registrar, with faults, until everything settles.

use super::world::created;
use super::*;

/// Pods and bindings of a walk.
const PODS: u8 = 8;
const BINDINGS: [(&str, &str); 3] = [("a", "one"), ("b", "shared"), ("c", "shared")];

fn bound(world: &mut World, name: &str, group: &str) -> Binding {
    let mut binding = binding(name).of_group(group);
    // No two objects ever have the same UID.
    binding.uid = Some(format!("uid-{name}-{}", world.random.u64(..)).into());
    binding.multi_cluster = true;
    binding.registration.created = created(1);
    binding
}

/// One random event.
fn happen(world: &mut World) {
    let number = world.random.u8(1..=PODS);
    match world.random.u8(..24) {
        0..=5 => world.apply(web(number)),
        6 => world.apply(web(number).uid("another")),
        7..=8 => world.apply(Pod {
            containers_ready: None,
            ..web(number)
        }),
        9..=10 => world.apply(Pod {
            terminating: true,
            ..web(number)
        }),
        11 => world.apply(pod(&format!("web-{number}")).ip("10.0.0.1").ready()),
        12 => world.lose(&format!("web-{number}")),
        13 => world.remove_service("web"),
        14..=15 => world.serve("web", web_service()),
        16 => {
            let (name, group) = BINDINGS[world.random.usize(..3)];
            match world.is_bound(name) {
                true => world.delete_binding(name),
                false => {
                    let binding = bound(world, name, group);
                    world.bind(binding);
                }
            }
        }
        17 => world.remove("one", target(number)),
        18 => world.register("shared", ([10, 9, 0, number].into(), 8080)),
        19 => {
            let synced = world.random.bool();
            world.fail_over(synced);
        }
        20 => world.sync(),
        21 => {
            let works = world.random.bool();
            world.works(works);
        }
        22 => world.bad = [target(number)].into(),
        _ => world.faults = [0, 10, 40][world.random.usize(..3)],
    }
}

#[test]
fn nothing_leaves_that_is_wanted_or_not_recorded_and_each_wanted_target_gets_in() {
    for seed in 0..12 {
        let mut world = World::new(seed);
        world.serve("web", web_service());
        for (name, group) in BINDINGS {
            let binding = bound(&mut world, name, group);
            world.bind(binding);
        }
        for _ in 0..80 {
            happen(&mut world);
            let time = MS * world.random.u32(0..4_000);
            world.pass(time);
        }
        // The last fault; three minutes, and the backoff of a target that was refused or fought for.
        world.faults = 0;
        world.bad.clear();
        world.sync();
        world.serve("web", web_service());
        for (name, group) in BINDINGS {
            if !world.is_bound(name) {
                let binding = bound(&mut world, name, group);
                world.bind(binding);
            }
        }
        world.pass(900 * S);
        for (name, group) in BINDINGS {
            let binding = world.index.binding(&key(name)).cloned();
            // One that was deleted is gone by now; what another binding of its group wants is looked at there.
            let Some(binding) = binding.filter(|binding| !binding.terminating) else {
                continue;
            };
            let wanted = (1..=PODS)
                .map(target)
                .filter(|target| world.wants(&binding, *target));
            let wanted: BTreeSet<Target> = wanted.collect();
            let registered = world.registered(group);
            assert!(
                wanted.is_subset(&registered),
                "seed {seed}: {wanted:?} {registered:?}"
            );
            // A target that two bindings want may stand in the record of either.
            let records = world.records.values().map(|(record, _)| record);
            let of_group = records.filter(|record| record.group.arn == arn(group));
            let recorded: BTreeSet<Target> =
                of_group.flat_map(|record| record.targets.clone()).collect();
            assert!(
                wanted.is_subset(&recorded),
                "seed {seed}, {name}: {wanted:?} {recorded:?}"
            );
        }
    }
}
