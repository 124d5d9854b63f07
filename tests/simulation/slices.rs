//! EndpointSlices of Services without a selector, as the world has them, and the steps that write them.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};

use crate::driver::Driver;
use crate::facts::{Facts, Key, PORT, Pod, Service};

/// The label that names a slice's Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// The name of the port to which all bindings of such Services lead.
const WEB: &str = "web";
/// What a slice calls by that name for a while. Chosen.
const OTHER_PORT: u16 = 9090;
/// The last numbers of addresses that no pod has. Chosen.
const PODLESS: std::ops::Range<u64> = 150..153;

/// An EndpointSlice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slice {
    pub(crate) service: String,
    /// Whether its addresses are those of IPv6, which no group of this world takes.
    six: bool,
    /// The numbers of its TCP ports, by name.
    ports: Vec<(String, u16)>,
    endpoints: Vec<Endpoint>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) address: IpAddr,
    /// The pod that it names, with its UID if it names that as well.
    pub(crate) pod: Option<(String, Option<String>)>,
    /// The condition `ready`, which is true where it is absent.
    pub(crate) ready: bool,
}

impl Slice {
    /// The slice that an answer of the API server tells.
    pub(crate) fn read(told: &Value) -> Option<(Key, Self)> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let metadata = &told["metadata"];
        let key = (text(&metadata["namespace"])?, text(&metadata["name"])?);
        let all = |field: &str| told[field].as_array().cloned().unwrap_or_default();
        let port = |port: Value| {
            let tcp = matches!(port["protocol"].as_str(), None | Some("TCP"));
            let number = u16::try_from(port["port"].as_u64()?).ok()?;
            tcp.then(|| (text(&port["name"]).unwrap_or_default(), number))
        };
        let endpoint = |endpoint: Value| {
            let pod = &endpoint["targetRef"];
            Some(Endpoint {
                address: endpoint["addresses"][0].as_str()?.parse().ok()?,
                pod: text(&pod["name"]).map(|name| (name, text(&pod["uid"]))),
                ready: endpoint["conditions"]["ready"] != false,
            })
        };
        let slice = Self {
            service: text(&metadata["labels"][SERVICE_NAME])?,
            six: told["addressType"] == "IPv6",
            ports: all("ports").into_iter().filter_map(port).collect(),
            endpoints: all("endpoints").into_iter().filter_map(endpoint).collect(),
        };
        Some((key, slice))
    }

    /// The targets to which those endpoints lead that count.
    pub(crate) fn targets(&self, counts: impl Fn(&Endpoint) -> bool) -> Vec<SocketAddr> {
        let web = self.ports.iter().find(|(name, _)| name == WEB);
        let Some((_, number)) = web.filter(|_| !self.six) else {
            return vec![];
        };
        let endpoints = self.endpoints.iter().filter(|endpoint| counts(endpoint));
        let targets = endpoints.map(|endpoint| SocketAddr::new(endpoint.address, *number));
        targets.collect()
    }
}

impl Facts {
    /// What the slices of a Service want.
    pub(crate) fn wanted_by_slices(&self, service: &Key) -> Vec<SocketAddr> {
        let slices = self.slices.iter();
        let slices = slices.filter(|((of, _), s)| (of, &s.service) == (&service.0, &service.1));
        let counts = |endpoint: &Endpoint| {
            let ip = endpoint.address.to_string();
            let taken = match &endpoint.pod {
                None => self.takes_podless && endpoint.ready,
                Some((name, uid)) => {
                    let pod = self.pods.get(&(service.0.clone(), name.clone()));
                    pod.is_some_and(|pod| {
                        let named = uid.as_ref().is_none_or(|uid| *uid == pod.uid);
                        named && pod.ready && !pod.terminating && pod.ip == ip
                    })
                }
            };
            taken && !self.refused.contains(&ip)
        };
        let wanted: BTreeSet<SocketAddr> = slices.flat_map(|(_, s)| s.targets(counts)).collect();
        wanted.into_iter().collect()
    }
}

/// Whether endpoints without a pod have this address.
pub(crate) fn is_podless(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(ip) if PODLESS.contains(&u64::from(ip.octets()[3])))
}

pub(crate) fn slices_path(namespace: &str) -> String {
    format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices")
}

/// The address of IPv6 of a pod that has this one.
pub(crate) fn six(ip: &str) -> String {
    format!("fd00::{}", ip.replace('.', ":"))
}

/// An endpoint that leads to a pod.
pub(crate) fn leads_to(key: &Key, pod: &Pod) -> Value {
    let named = json!({ "kind": "Pod", "namespace": key.0, "name": key.1, "uid": pod.uid });
    json!({ "addresses": [pod.ip], "targetRef": named })
}

/// The ports of a slice, of which bindings lead to one.
pub(crate) fn ports(number: u16) -> Value {
    json!([{ "name": "admin", "port": OTHER_PORT + 1 }, { "name": WEB, "port": number }])
}

impl Driver {
    pub(crate) async fn slices_step(&mut self) {
        let namespace = self.some_namespace();
        let service = (namespace, format!("ext-{}", self.random.between(1, 2)));
        if !self.world.facts.lock().services.contains_key(&service) {
            return self.sliced_service_comes(&service).await;
        }
        match self.random.below(12) {
            0..4 => self.slice_is_written(&service).await,
            4 | 5 => self.slices_are_emptied_and_back(&service).await,
            6 | 7 => self.endpoint_moves(&service).await,
            8 => self.conditions_flip(&service).await,
            9 => self.port_changes(&service).await,
            10 => self.slice_goes(&service).await,
            _ => self.selector_comes_or_goes(&service).await,
        }
    }

    /// Creates a Service without a selector, slices of it, and a binding to it.
    pub(crate) async fn sliced_service_comes(&mut self, service: &Key) {
        self.sliced_service(service).await;
        for _ in 0..2 {
            let (namespace, name) = service;
            self.ungated_pod(namespace, name, (None, None)).await;
        }
        for _ in 0..3 {
            self.slice_is_written(service).await;
        }
        if !self.world.facts.lock().bindings.contains_key(service) {
            self.bind(service, &service.1).await;
        }
    }

    pub(crate) async fn sliced_service(&mut self, key: &Key) {
        let service = json!({
            "metadata": { "name": key.1 },
            "spec": { "ports": [
                { "name": "admin", "port": 81 },
                { "name": WEB, "port": 80, "targetPort": PORT },
            ] },
        });
        let path = format!("/api/v1/namespaces/{}/services", key.0);
        let (code, _) = self.world.call("POST", &path, Some(service)).await;
        if code == 201 {
            let mut facts = self.world.facts.lock();
            let without = Service {
                selector: [].into(),
            };
            facts.services.insert(key.clone(), without);
            facts.remember();
        }
    }

    /// Creates a slice of a Service, or writes it anew.
    pub(crate) async fn put_slice(&mut self, key: &Key, service: &str, fields: Value) {
        let mut slice = json!({
            "metadata": { "name": key.1, "labels": { SERVICE_NAME: service } },
        });
        let known = self.world.facts.lock().slices.contains_key(key);
        let all = slices_path(&key.0);
        for (field, value) in fields.as_object().into_iter().flatten() {
            slice[field] = value.clone();
        }
        let (code, made) = match known {
            true => {
                let path = format!("{all}/{}", key.1);
                self.world.call("MERGE", &path, Some(slice)).await
            }
            false => self.world.call("POST", &all, Some(slice)).await,
        };
        if let Some((key, slice)) = Slice::read(&made).filter(|_| code < 300) {
            self.world.facts.lock().slices.insert(key, slice);
        }
    }

    /// The slices of a Service.
    fn slices_of(&self, service: &Key) -> Vec<Key> {
        let facts = self.world.facts.lock();
        let of = |(key, slice): &(&Key, &Slice)| {
            (&key.0, &slice.service) == (&service.0, &service.1) && !slice.six
        };
        let all = facts.slices.iter().filter(of);
        all.map(|(key, _)| key.clone()).collect()
    }

    fn stored_slice(&self, key: &Key) -> Value {
        let path = format!("{}/{}", slices_path(&key.0), key.1);
        crate::direct::get(&self.world.api, &path).unwrap_or_default()
    }

    /// One of the slices of a Service gets other endpoints, of pods of any app.
    async fn slice_is_written(&mut self, service: &Key) {
        let which = self.random.pick(&["a", "b", "c", "six"]).unwrap_or("a");
        let key = (service.0.clone(), format!("{}-{which}", service.1));
        let is_six = which == "six";
        let endpoints = self.some_endpoints(&service.0, is_six);
        let number = match self.random.below(10) {
            0 => OTHER_PORT,
            _ => PORT,
        };
        let mut fields = json!({
            "addressType": if is_six { "IPv6" } else { "IPv4" },
            "ports": ports(number), "endpoints": endpoints,
        });
        if self.random.percent(5) {
            fields["ports"] = json!([{ "name": "admin", "port": PORT }]);
        }
        self.note(&format!("{key:?} is a slice of {}", service.1));
        self.put_slice(&key, &service.1, fields).await;
    }

    fn some_endpoints(&mut self, namespace: &str, is_six: bool) -> Vec<Value> {
        let pods: Vec<(Key, Pod)> = {
            let facts = self.world.facts.lock();
            let here = facts.pods.iter().filter(|((of, _), _)| of == namespace);
            here.map(|(key, pod)| (key.clone(), pod.clone())).collect()
        };
        let mut endpoints = vec![];
        for (key, pod) in pods {
            if !self.random.percent(60) {
                continue;
            }
            let mut endpoint = leads_to(&key, &pod);
            match self.random.below(10) {
                0..5 => {}
                5..8 => endpoint["targetRef"]["uid"] = Value::Null,
                8 => endpoint["targetRef"]["uid"] = json!("another"),
                _ => endpoint["addresses"] = json!(["10.0.9.9"]),
            }
            endpoints.push(endpoint);
        }
        if self.random.percent(30) {
            let part = namespace.rsplit('-').next().unwrap_or_default();
            let last = self.random.between(PODLESS.start, PODLESS.end - 1);
            endpoints.push(json!({ "addresses": [format!("10.0.{part}.{last}")] }));
        }
        for endpoint in &mut endpoints {
            self.flip(endpoint);
            if is_six {
                let ip = endpoint["addresses"][0].as_str().unwrap_or_default();
                endpoint["addresses"] = json!([six(ip)]);
            }
        }
        endpoints
    }

    /// Draws the conditions of an endpoint.
    fn flip(&mut self, endpoint: &mut Value) {
        let mut conditions = json!({});
        for condition in ["ready", "serving", "terminating"] {
            if self.random.percent(70) {
                conditions[condition] = json!(self.random.percent(50));
            }
        }
        endpoint["conditions"] = conditions;
    }

    /// All slices of a Service lose their endpoints, as if the program that writes them had lost its view.
    async fn slices_are_emptied_and_back(&mut self, service: &Key) {
        let keys = self.slices_of(service);
        let before: Vec<Value> = keys.iter().map(|key| self.stored_slice(key)).collect();
        self.note(&format!("the slices of {service:?} are emptied"));
        for key in &keys {
            let empty = json!({ "endpoints": [] });
            self.put_slice(key, &service.1, empty).await;
            let time = self.random.millis(0, 3_000);
            self.pass(time).await;
        }
        let time = self.random.millis(0, 60_000);
        self.pass(time).await;
        for (key, slice) in keys.iter().zip(before) {
            let endpoints = json!({ "endpoints": slice["endpoints"] });
            self.put_slice(key, &service.1, endpoints).await;
        }
    }

    /// An endpoint gets into a second slice, and then leaves the first one.
    async fn endpoint_moves(&mut self, service: &Key) {
        let keys = self.slices_of(service);
        let (Some(from), Some(to)) = (self.random.pick(&keys), self.random.pick(&keys)) else {
            return;
        };
        let mut there = self.stored_slice(&from)["endpoints"].clone();
        let mut here = self.stored_slice(&to)["endpoints"].clone();
        let (Some(there), Some(here)) = (there.as_array_mut(), here.as_array_mut()) else {
            return;
        };
        if from == to || there.is_empty() {
            return;
        }
        let moved = there.remove(self.random.below(there.len()));
        if !here.contains(&moved) {
            here.push(moved);
        }
        self.note(&format!("an endpoint is in {from:?} and {to:?}"));
        let both = json!({ "endpoints": here });
        self.put_slice(&to, &service.1, both).await;
        let time = self.random.millis(0, 30_000);
        self.pass(time).await;
        let one = json!({ "endpoints": there });
        self.put_slice(&from, &service.1, one).await;
    }

    /// The conditions of all endpoints change, of which none counts that leads to a pod.
    async fn conditions_flip(&mut self, service: &Key) {
        for key in self.slices_of(service) {
            let mut endpoints = self.stored_slice(&key)["endpoints"].clone();
            let all = endpoints.as_array_mut().into_iter().flatten();
            all.for_each(|endpoint| self.flip(endpoint));
            self.note(&format!("the conditions of {key:?} flip"));
            let flipped = json!({ "endpoints": endpoints });
            self.put_slice(&key, &service.1, flipped).await;
        }
    }

    /// The slices of a Service get another number for its port, one after the other.
    async fn port_changes(&mut self, service: &Key) {
        let number = self.random.pick(&[PORT, OTHER_PORT]).unwrap_or(PORT);
        for key in self.slices_of(service) {
            self.note(&format!("the port of {key:?} is {number}"));
            let other = json!({ "ports": ports(number) });
            self.put_slice(&key, &service.1, other).await;
            let time = self.random.millis(0, 5_000);
            self.pass(time).await;
        }
    }

    /// A slice is deleted, or becomes one of another Service.
    async fn slice_goes(&mut self, service: &Key) {
        let keys = self.slices_of(service);
        let Some(key) = self.random.pick(&keys) else {
            return;
        };
        if self.random.percent(60) {
            let other = if service.1 == "ext-1" {
                "ext-2"
            } else {
                "ext-1"
            };
            self.note(&format!("{key:?} becomes a slice of {other}"));
            return self.put_slice(&key, other, json!({})).await;
        }
        let path = format!("{}/{}", slices_path(&key.0), key.1);
        let (code, _) = self.world.call("DELETE", &path, None).await;
        if code == 200 {
            self.world.facts.lock().slices.remove(&key);
        }
    }

    /// A Service gets a selector, so that its slices count no more, or loses it.
    async fn selector_comes_or_goes(&mut self, service: &Key) {
        let app = {
            let facts = self.world.facts.lock();
            facts.services[service].selector.get("app").cloned()
        };
        let app = match app {
            Some(_) => None,
            None => Some(self.some_app()),
        };
        let path = format!("/api/v1/namespaces/{}/services/{}", service.0, service.1);
        let patch =
            json!({ "spec": { "selector": app.as_ref().map(|app| json!({ "app": app })) } });
        let (code, _) = self.world.call("MERGE", &path, Some(patch)).await;
        self.note(&format!("{service:?} selects {app:?}"));
        let mut facts = self.world.facts.lock();
        if let Some(known) = facts.services.get_mut(service).filter(|_| code == 200) {
            known.selector = app.map(|app| ("app".to_owned(), app)).into_iter().collect();
            facts.remember();
        }
    }
}
