//! Services without a selector.

use super::*;
use crate::targets::slices::{Endpoint, Slice, SlicePort};

impl World {
    /// With Service `web`, which has no selector.
    fn by_slices(slice_addresses: SliceAddresses) -> Self {
        let mut world = Self::new();
        world.wanted = Wanted::new(slice_addresses);
        world.serve("web", service().port("http", 80, None));
        world.bind(binding("web"));
        world
    }

    fn slice(&mut self, name: &str, slice: Slice) -> Touched {
        let services = self.slices.apply(&key(name), slice).into_iter();
        let changes = Changes {
            services: services.collect(),
            ..Changes::default()
        };
        self.wanted.observe(&changes, &self.index, &self.slices)
    }

    /// How many endpoints are left out, and whether some of them name no pod.
    fn left_out(&self, group: &str) -> (usize, bool) {
        let wants = self.wanted.of_group(&arn(group));
        (wants.left_out.len(), wants.has_podless_left_out)
    }
}

fn slice(endpoints: &[(&str, Option<&str>)]) -> Slice {
    let endpoint = |(address, pod): &(&str, Option<&str>)| Endpoint {
        address: address.parse().unwrap(),
        pod: pod.map(|pod| (pod.into(), None)),
        ready: true,
    };
    Slice {
        service: "web".into(),
        family: IpFamily::V4,
        ports: vec![SlicePort {
            name: "http".into(),
            protocol: Protocol::Tcp,
            number: 8081,
        }],
        endpoints: endpoints.iter().map(endpoint).collect(),
    }
}

#[test]
fn a_service_without_a_selector_has_the_pods_that_its_slices_name_with_their_own_address() {
    let mut world = World::new();
    world.serve("web", service().port("http", 80, None));
    world.bind(binding("web"));
    for (name, ip) in [
        ("a-1", "10.0.0.1"),
        ("a-2", "10.0.0.2"),
        ("a-3", "10.0.0.3"),
    ] {
        world.apply(pod(name).ip(ip).ready());
    }
    let endpoints = [
        ("10.0.0.1", Some("a-1")),
        ("10.9.9.9", Some("a-2")),
        ("10.0.0.3", None),
        ("10.0.0.4", Some("a-4")),
    ];
    world.slice("web-x", slice(&endpoints));
    assert_eq!(world.wants("web"), ["10.0.0.1:8081"]);
    assert_eq!(world.left_out("web"), (3, true));
    // A pod that the slice names may be seen later.
    world.apply(pod("a-4").ip("10.0.0.4").ready());
    assert_eq!(world.wants("web"), ["10.0.0.1:8081", "10.0.0.4:8081"]);
    assert_eq!(world.left_out("web"), (2, true));
    world.index.delete_pod(&key("a-1"));
    assert_eq!(world.observe(), ended("web", "10.0.0.1", 8081));
    assert_eq!(world.left_out("web"), (3, true));
}

#[test]
fn an_endpoint_that_names_a_former_pod_of_the_name_is_left_out() {
    let mut world = World::by_slices(SliceAddresses::Any);
    let mut former = slice(&[("10.0.0.1", Some("a-1"))]);
    former.endpoints[0].pod = Some(("a-1".into(), Some("former".into())));
    world.slice("web-x", former);
    world.apply(pod("a-1").ip("10.0.0.1").ready());
    assert_eq!(world.wants("web"), [""; 0]);
    assert_eq!(world.left_out("web"), (1, false));
}

#[rstest]
#[case::pods(SliceAddresses::Pods, &["10.0.0.1:8081"], (4, true))]
#[case::any(SliceAddresses::Any, &["10.0.0.1:8081", "10.0.0.3:8081"], (2, false))]
fn endpoints_that_name_no_pod_are_taken_where_that_is_asked_for_once_they_are_ready(
    #[case] slice_addresses: SliceAddresses,
    #[case] wanted: &[&str],
    #[case] left_out: (usize, bool),
) {
    let mut world = World::by_slices(slice_addresses);
    world.apply(pod("a-1").ip("10.0.0.1").ready());
    world.apply(pod("a-2").ip("10.0.0.2").ready());
    let mut endpoints = slice(&[
        ("10.0.0.1", Some("a-1")),
        // Another address than the pod's, and a pod that is gone.
        ("10.9.9.9", Some("a-2")),
        ("10.0.0.5", Some("a-5")),
        ("10.0.0.3", None),
        ("10.0.0.4", None),
    ]);
    endpoints.endpoints[4].ready = false;
    world.slice("web-x", endpoints);
    assert_eq!(world.wants("web"), wanted);
    assert_eq!(world.left_out("web"), left_out);
    let any = slice_addresses == SliceAddresses::Any;
    let unready = world.wanted.of_group(&arn("web")).unready;
    assert_eq!(unready.len(), usize::from(any), "{unready:?}");
}

#[test]
fn an_endpoint_that_two_slices_have_is_left_out_once_and_not_at_all_where_one_leads_to_it() {
    let mut world = World::by_slices(SliceAddresses::Pods);
    world.slice("web-x", slice(&[("10.0.0.3", None), ("10.0.0.4", None)]));
    world.slice("web-y", slice(&[("10.0.0.3", None), ("10.0.0.1", None)]));
    assert_eq!(world.left_out("web"), (3, true));
    // A slice of another port of the Service is none of the binding's.
    let mut others = slice(&[("10.0.0.5", None)]);
    others.ports[0].name = "admin".into();
    world.slice("web-z", others);
    assert_eq!(world.left_out("web"), (3, true));
    world.apply(pod("a-1").ip("10.0.0.1").ready());
    world.slice("web-x", slice(&[("10.0.0.1", Some("a-1"))]));
    assert_eq!(world.wants("web"), ["10.0.0.1:8081"]);
    assert_eq!(world.left_out("web"), (1, true));
}

#[test]
fn a_pod_to_which_slices_give_several_ports_is_wanted_at_each_of_them() {
    let mut world = World::by_slices(SliceAddresses::Pods);
    world.apply(pod("a-1").ip("10.0.0.1").ready());
    let mut other = slice(&[("10.0.0.1", Some("a-1"))]);
    other.ports[0].number = 9090;
    world.slice("web-y", other.clone());
    world.slice("web-x", slice(&[("10.0.0.1", Some("a-1"))]));
    assert_eq!(world.wants("web"), ["10.0.0.1:8081", "10.0.0.1:9090"]);
    assert_eq!(world.slice("web-x", other.clone()), changed("web"));
    assert_eq!(world.wants("web"), ["10.0.0.1:9090"]);
    world.slice("web-x", slice(&[("10.0.0.1", Some("a-1"))]));
    // Whatever is wanted stays so until the absence of the Service is confirmed.
    world.index.delete_service(&key("web"));
    world.observe();
    assert_eq!(world.wants("web"), ["10.0.0.1:8081", "10.0.0.1:9090"]);
    world.serve("web", service().port("http", 80, None));
    world.index.delete_pod(&key("a-1"));
    let mut both = ended("web", "10.0.0.1", 8081);
    both.ended.extend(ended("web", "10.0.0.1", 9090).ended);
    assert_eq!(world.observe(), both);
    assert_eq!(world.wants("web"), [""; 0]);
    world.apply(pod("a-1").ip("10.0.0.1").ready());
    world.index.delete_service(&key("web"));
    world.observe();
    world.wanted.absence_confirmed(&binding_key("web"));
    assert_eq!(world.wants("web"), [""; 0]);
}

#[test]
fn an_endpoint_without_a_pod_is_wanted_until_it_is_gone_from_the_slices_or_the_service_is() {
    let mut world = World::by_slices(SliceAddresses::Any);
    world.slice("web-x", slice(&[("10.0.0.3", None), ("10.0.0.4", None)]));
    // Another port of the Service, and another family.
    let mut others = slice(&[("10.0.0.5", None)]);
    others.ports[0].name = "admin".into();
    world.slice("web-y", others);
    let mut others = slice(&[("10.0.0.6", None)]);
    others.family = IpFamily::V6;
    world.slice("web-z", others);
    assert_eq!(world.wants("web"), ["10.0.0.3:8081", "10.0.0.4:8081"]);
    // It is no end that was seen: it leaves above the floor.
    assert_eq!(
        world.slice("web-x", slice(&[("10.0.0.4", None)])),
        changed("web")
    );
    assert_eq!(world.wants("web"), ["10.0.0.4:8081"]);
    world.index.delete_service(&key("web"));
    world.observe();
    world.slice("web-x", slice(&[]));
    assert_eq!(world.wants("web"), ["10.0.0.4:8081"], "it is not confirmed");
    world.wanted.absence_confirmed(&binding_key("web"));
    assert_eq!(world.wants("web"), [""; 0]);
    // With a selector, slices do not count.
    let selecting = service().selecting("app", "web").port("http", 80, None);
    world.slice("web-x", slice(&[("10.0.0.4", None)]));
    world.serve("web", selecting);
    assert_eq!((world.wants("web").len(), world.left_out("web").0), (0, 0));
}
