//! The EndpointSlices that a replica knows: those that the API server told it, read from the bodies of its answers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use http_body_util::BodyExt as _;
use serde_json::Value;
use targetgate_sandbox::api::ResponseBody;
use tokio::time::Instant;

use crate::facts::Key;
use crate::slices::Slice;
use crate::witness::Witness;

/// What was told so lately may not be taken in yet. Chosen.
const JUST_NOW: Duration = Duration::from_millis(100);

/// What one life of a replica was told.
#[derive(Debug, Clone, Default)]
pub(crate) struct ToldSlices {
    all: BTreeMap<Key, Said>,
    /// What the pages of the present list had so far.
    listed: BTreeSet<Key>,
}

/// What was said of one slice last, and before that; `None` if it is gone.
#[derive(Debug, Clone)]
struct Said {
    last: Option<Slice>,
    before: Option<Slice>,
    at: Instant,
}

impl ToldSlices {
    /// The slices of a Service, as they were told last, or as they were before what was told just now.
    pub(crate) fn of(&self, service: (&str, &str), before: bool) -> impl Iterator<Item = &Slice> {
        let known = self.all.iter().filter_map(move |((namespace, _), said)| {
            let known = match before && said.at.elapsed() < JUST_NOW {
                true => &said.before,
                false => &said.last,
            };
            known.as_ref().filter(|_| *namespace == service.0)
        });
        known.filter(move |slice| slice.service == service.1)
    }

    /// All that were told last.
    pub(crate) fn all(&self) -> BTreeMap<Key, Slice> {
        let all = self.all.iter();
        let all = all.filter_map(|(key, said)| Some((key.clone(), said.last.clone()?)));
        all.collect()
    }

    fn say(&mut self, key: Key, slice: Option<Slice>) {
        let at = Instant::now();
        let said = self.all.entry(key).or_insert(Said {
            last: None,
            before: None,
            at,
        });
        if said.last == slice {
            return;
        }
        // Of what was said more than once just now, the first counts as the one before.
        let before = std::mem::replace(&mut said.last, slice);
        if said.at.elapsed() >= JUST_NOW || said.before.is_none() {
            said.before = before;
        }
        said.at = at;
    }

    /// Takes in a page of a list, or an event of a watch.
    fn hear(&mut self, told: &Value, first_page: bool) {
        let Some(items) = told["items"].as_array() else {
            let gone = told["type"] == "DELETED";
            if matches!(
                told["type"].as_str(),
                Some("ADDED" | "MODIFIED" | "DELETED")
            ) && let Some((key, slice)) = Slice::read(&told["object"])
            {
                self.say(key, (!gone).then_some(slice));
            }
            return;
        };
        if first_page {
            self.listed.clear();
        }
        for (key, slice) in items.iter().filter_map(Slice::read) {
            self.listed.insert(key.clone());
            self.say(key, Some(slice));
        }
        let last_page = matches!(told["metadata"]["continue"].as_str(), None | Some(""));
        if last_page {
            let gone = self.all.keys().filter(|key| !self.listed.contains(*key));
            let gone: Vec<Key> = gone.cloned().collect();
            gone.into_iter().for_each(|key| self.say(key, None));
        }
    }
}

impl Witness {
    /// Overhears what an answer about slices tells a replica, when it reads that.
    pub(crate) fn overhear_slices(
        &self,
        incarnation: &str,
        body: ResponseBody,
        first_page: bool,
    ) -> ResponseBody {
        let (facts, incarnation) = (self.facts.clone(), incarnation.to_owned());
        let overheard = body.map_frame(move |frame| {
            // A list is one frame, and so is each event.
            let told = frame
                .data_ref()
                .and_then(|b| serde_json::from_slice(b).ok());
            if let Some(told) = told {
                let mut facts = facts.lock();
                let known = facts.told_slices.entry(incarnation.clone()).or_default();
                known.hear(&told, first_page);
            }
            frame
        });
        overheard.boxed_unsync()
    }
}
