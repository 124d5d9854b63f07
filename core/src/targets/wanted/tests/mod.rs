use fastrand::Rng;
use rstest::rstest;

use super::*;
use crate::fixtures::{arn, binding, pod, service};
use crate::index::Listing;
use crate::model::{IpFamily, Pod, PortRef, Protocol};

mod endpoints;

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("shop", name)
}

fn binding_key(name: &str) -> BindingKey {
    BindingKey {
        object: key(name),
        api: BindingApi::Elbv2,
    }
}

/// A cluster whose bindings are all tracked.
#[derive(Default)]
struct World {
    index: Index,
    slices: Slices,
    wanted: Wanted,
}

impl World {
    fn new() -> Self {
        let mut world = Self::default();
        world.index.keep_all_pods();
        world
    }

    /// With Service `web`, which selects `app=web` and leads to port 8080.
    fn with_web() -> Self {
        let mut world = Self::new();
        let service = service().selecting("app", "web");
        let service = service.port("http", 80, Some(PortRef::Number(8080)));
        world.index.apply_service(&key("web"), service);
        world.bind(binding("web"));
        world
    }

    fn bind(&mut self, binding: Binding) -> Touched {
        self.index.apply_binding(&"shop".into(), binding);
        self.observe()
    }

    fn apply(&mut self, pod: Pod) -> Touched {
        self.index.apply_pod(pod);
        self.observe()
    }

    fn serve(&mut self, name: &str, service: Service) -> Touched {
        self.index.apply_service(&key(name), service);
        self.observe()
    }

    fn observe(&mut self) -> Touched {
        let changes = self.index.take_changes();
        let mut touched = Touched::default();
        for key in &changes.bindings {
            let (deleted, index) = (&changes.deleted, &self.index);
            touched.add(self.wanted.track(key, deleted, index, &self.slices));
        }
        touched.add(self.wanted.observe(&changes, &self.index, &self.slices));
        touched
    }

    fn wants(&self, group: &str) -> Vec<String> {
        let wants = self.wanted.of_group(&arn(group));
        wants
            .wanted
            .keys()
            .map(|(ip, port)| format!("{ip}:{port}"))
            .collect()
    }
}

fn web(name: &str, ip: &str) -> Pod {
    pod(name).label("app", "web").ip(ip).ready()
}

fn ended(group: &str, ip: &str, port: u16) -> Touched {
    Touched {
        groups: [arn(group)].into(),
        ended: [(arn(group), (ip.parse().unwrap(), port))].into(),
    }
}

fn changed(group: &str) -> Touched {
    Touched {
        groups: [arn(group)].into(),
        ended: BTreeSet::new(),
    }
}

#[test]
fn pods_that_the_service_selects_are_wanted_once_their_containers_are_ready() {
    let mut world = World::with_web();
    assert_eq!(
        world.apply(pod("web-1").label("app", "web").ip("10.0.0.1")),
        changed("web")
    );
    assert_eq!(world.wants("web"), [""; 0]);
    world.apply(web("web-1", "10.0.0.1"));
    world.apply(web("web-2", "10.0.0.2").gate("web"));
    world.apply(pod("api-1").label("app", "api").ip("10.0.0.3").ready());
    assert_eq!(world.wants("web"), ["10.0.0.1:8080", "10.0.0.2:8080"]);
}

#[test]
fn a_pod_at_its_end_is_not_wanted_and_its_target_has_ended() {
    let mut world = World::with_web();
    for pod in [
        Pod {
            terminating: true,
            ..web("web-1", "10.0.0.1")
        },
        Pod {
            finished: true,
            ..web("web-1", "10.0.0.1")
        },
        web("web-1", "10.0.0.9"),
        web("web-1", "10.0.0.9").uid("another"),
    ] {
        world.apply(web("web-1", "10.0.0.1"));
        assert_eq!(world.apply(pod), ended("web", "10.0.0.1", 8080));
        world.index.delete_pod(&key("web-1"));
        world.observe();
    }
    world.apply(web("web-1", "10.0.0.1"));
    world.index.delete_pod(&key("web-1"));
    assert_eq!(world.observe(), ended("web", "10.0.0.1", 8080));
    assert_eq!(world.wants("web"), [""; 0]);
}

#[test]
fn a_pod_that_is_deleted_while_its_binding_changes_has_ended_as_well() {
    let mut world = World::with_web();
    world.apply(web("web-1", "10.0.0.1"));
    world.index.delete_pod(&key("web-1"));
    let mut again = binding("web");
    again.opted_out = true;
    assert_eq!(world.bind(again), ended("web", "10.0.0.1", 8080));
}

#[test]
fn a_pod_that_is_not_ready_not_selected_or_not_listed_any_more_has_not_ended() {
    let mut world = World::with_web();
    let unready = pod("web-1").label("app", "web").ip("10.0.0.1");
    let unselected = pod("web-1").label("app", "api").ip("10.0.0.1").ready();
    let without_address = pod("web-1").label("app", "web").ready();
    for other in [unready, unselected, without_address] {
        world.apply(web("web-1", "10.0.0.1"));
        assert_eq!(world.apply(other), changed("web"));
        assert_eq!(world.wants("web"), [""; 0]);
    }
    world.apply(web("web-1", "10.0.0.1"));
    world.index.retain_pods(&Listing::default());
    assert_eq!(world.observe(), changed("web"));
}

#[test]
fn a_living_pod_that_is_not_ready_is_known_by_its_target() {
    let mut world = World::with_web();
    world.apply(pod("web-1").label("app", "web").ip("10.0.0.1"));
    let wants = world.wanted.of_group(&arn("web"));
    assert_eq!(wants.unready, [([10, 0, 0, 1].into(), 8080)].into());
}

#[test]
fn not_ready_addresses_are_wanted_where_the_service_publishes_them() {
    let mut world = World::new();
    let service = service().selecting("app", "web").port("http", 80, None);
    world.serve("web", service.publishing_not_ready());
    world.bind(binding("web"));
    world.apply(pod("web-1").label("app", "web").ip("10.0.0.1"));
    assert_eq!(world.wants("web"), ["10.0.0.1:80"]);
}

#[test]
fn a_named_port_is_that_of_each_revision() {
    let mut world = World::new();
    let named = Some(PortRef::Name("http".into()));
    world.serve(
        "web",
        service().selecting("app", "web").port("http", 80, named),
    );
    world.bind(binding("web"));
    world.apply(web("web-1", "10.0.0.1").named_port("http", 8080));
    world.apply(web("web-2", "10.0.0.2").named_port("http", 9090));
    world.apply(web("web-3", "10.0.0.3").named_port_of(Protocol::Udp, "http", 9090));
    assert_eq!(world.wants("web"), ["10.0.0.1:8080", "10.0.0.2:9090"]);
    let impossible = world.wanted.of_group(&arn("web")).impossible;
    assert_eq!(impossible, [(Reason::PortNotFound, 1)].into());
}

#[test]
fn a_group_takes_addresses_of_its_own_family_alone() {
    // B3: a pod of both families, and a group of each.
    let mut world = World::with_web();
    let mut v6 = binding("six");
    v6.family = IpFamily::V6;
    world.bind(v6);
    world.apply(web("web-1", "10.0.0.51").ip("2001:db8::51"));
    world.apply(web("web-2", "10.0.0.52"));
    assert_eq!(world.wants("web"), ["10.0.0.51:8080", "10.0.0.52:8080"]);
    assert_eq!(world.wants("six"), ["2001:db8::51:8080"]);
    let impossible = world.wanted.of_group(&arn("six")).impossible;
    assert_eq!(impossible, [(Reason::AddressNotFound, 1)].into());
}

#[test]
fn one_target_can_be_wanted_by_two_pods_of_a_node_and_by_two_bindings() {
    let mut world = World::with_web();
    world.bind(binding("other").of_group("web"));
    world.apply(Pod {
        host_network: true,
        ..web("web-1", "10.0.0.1")
    });
    world.apply(Pod {
        host_network: true,
        ..web("web-2", "10.0.0.1")
    });
    let wants = world.wanted.of_group(&arn("web"));
    let want = &wants.wanted[&([10, 0, 0, 1].into(), 8080)];
    assert_eq!(want.bindings.len(), 2);
    world.index.delete_pod(&key("web-1"));
    world.observe();
    assert_eq!(world.wants("web"), ["10.0.0.1:8080"]);
    world.wanted.untrack(&binding_key("other"));
    assert_eq!(world.wants("web"), ["10.0.0.1:8080"]);
}

#[rstest]
#[case::the_service(None, Reason::ServiceGone)]
#[case::its_port(Some(service().selecting("app", "web").port("https", 443, None)), Reason::ServicePortNotFound)]
#[case::its_pods(Some(Service { external_name: true, ..service() }), Reason::ServiceExternalName)]
fn what_was_wanted_stays_so_until_the_absence_is_confirmed(
    #[case] now: Option<Service>,
    #[case] reason: Reason,
) {
    // B7: a Service or its port vanishes and comes back.
    let mut world = World::with_web();
    world.apply(web("web-1", "10.0.0.1"));
    world.apply(web("web-2", "10.0.0.2"));
    let before = world.index.service("shop", "web").cloned().unwrap();
    match now {
        Some(service) => world.index.apply_service(&key("web"), service),
        None => world.index.delete_service(&key("web")),
    }
    world.observe();
    assert_eq!(world.wanted.missing(&binding_key("web")), Some(reason));
    // Pods that end meanwhile are not wanted any more, and new ones are not wanted yet.
    world.index.delete_pod(&key("web-2"));
    assert_eq!(world.observe(), ended("web", "10.0.0.2", 8080));
    world.apply(web("web-3", "10.0.0.3"));
    assert_eq!(world.wants("web"), ["10.0.0.1:8080"]);
    world.wanted.absence_confirmed(&binding_key("web"));
    assert_eq!(world.wants("web"), [""; 0]);
    world.serve("web", before);
    assert_eq!(world.wanted.missing(&binding_key("web")), None);
    assert_eq!(world.wants("web"), ["10.0.0.1:8080", "10.0.0.3:8080"]);
}

#[test]
fn a_binding_that_changes_its_group_wants_its_pods_there() {
    let mut world = World::with_web();
    world.apply(web("web-1", "10.0.0.1"));
    world.bind(binding("web").of_group("new"));
    assert_eq!((world.wants("web").len(), world.wants("new").len()), (0, 1));
    world.wanted.untrack(&binding_key("web"));
    assert!(world.wanted.by_pod.is_empty() && world.wanted.by_group.is_empty());
}

/// One random change of the cluster.
fn happen(world: &mut World, random: &mut Rng) {
    let name = |random: &mut Rng, kind: &str| format!("{kind}-{}", random.u8(..4));
    match random.u8(..8) {
        0 => world.index.delete_pod(&key(&name(random, "pod"))),
        1 => {
            let mut listing = Listing::default();
            listing.keys.extend(
                (0..4)
                    .filter(|_| random.bool())
                    .map(|n| key(&format!("pod-{n}"))),
            );
            world.index.retain_pods(&listing);
        }
        2 => {
            let service = service().selecting("app", ["a", "b"][random.usize(..2)]);
            let service = service.port("http", 80, random.bool().then_some(PortRef::Number(8080)));
            let service = Service {
                publish_not_ready: random.u8(..4) == 0,
                ..service
            };
            world
                .index
                .apply_service(&key(&name(random, "web")), service);
        }
        3 => world.index.apply_binding(
            &"shop".into(),
            Binding {
                service: name(random, "web").into(),
                ..binding(&name(random, "tgb")).of_group(["one", "two"][random.usize(..2)])
            },
        ),
        _ => {
            let mut pod = pod(&name(random, "pod")).label("app", ["a", "b"][random.usize(..2)]);
            if random.bool() {
                pod = pod.ip(&format!("10.0.0.{}", random.u8(..3)));
            }
            pod.terminating = random.u8(..5) == 0;
            world.index.apply_pod(match random.bool() {
                true => pod.ready(),
                false => pod.uid("other"),
            });
        }
    }
}

#[test]
fn what_is_kept_up_to_date_is_what_would_be_worked_out_anew() {
    for seed in 0..300 {
        let mut random = Rng::with_seed(seed);
        let mut world = World::new();
        for step in 0..60 {
            happen(&mut world, &mut random);
            if random.bool() {
                continue;
            }
            world.observe();
            let mut anew = Wanted::default();
            for key in world.wanted.tracked() {
                anew.track(key, &BTreeSet::new(), &world.index, &world.slices);
            }
            for group in ["one", "two"].map(arn) {
                let (kept, anew) = (world.wanted.of_group(&group), anew.of_group(&group));
                // Only what a missing Service left wanted is not worked out anew.
                if kept.missing.is_empty() {
                    assert_eq!(kept, anew, "seed {seed}, step {step}");
                }
            }
        }
    }
}
