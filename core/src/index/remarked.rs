//! The pods of a namespace of which there is something to tell, gated or not: few, so that the others cost nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use crate::model::{ControllerRef, Labels, Pod, PodRemarks, PodTemplate};

/// The live pods with remarks, by name.
#[derive(Debug, Default)]
pub(crate) struct RemarkedPods(BTreeMap<Arc<str>, Remarked>);

#[derive(Debug)]
struct Remarked {
    uid: Arc<str>,
    template: Arc<PodTemplate>,
    containers_ready: Option<Timestamp>,
}

/// A pod with what there is to tell of it.
#[derive(Debug, Clone, Copy)]
pub struct RemarkedPod<'a> {
    pub namespace: &'a Arc<str>,
    pub name: &'a Arc<str>,
    pub uid: &'a Arc<str>,
    pub controller: Option<&'a Arc<ControllerRef>>,
    pub labels: &'a Labels,
    pub remarks: &'a PodRemarks,
    /// When its containers became ready; `None` while they are not.
    pub containers_ready: Option<Timestamp>,
}

impl RemarkedPods {
    /// Takes in a pod, whose template `intern` interns.
    pub(crate) fn apply(
        &mut self,
        pod: &Pod,
        intern: impl FnOnce(Arc<PodTemplate>) -> Arc<PodTemplate>,
    ) {
        if pod.template.remarks.is_none() || !pod.is_live() {
            return self.delete(&pod.key.name);
        }
        let remarked = Remarked {
            uid: pod.uid.clone(),
            template: intern(pod.template.clone()),
            containers_ready: pod.containers_ready,
        };
        self.0.insert(pod.key.name.clone(), remarked);
    }

    pub(crate) fn delete(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// The pods, of this namespace, by name.
    pub(crate) fn iter<'a>(
        &'a self,
        namespace: &'a Arc<str>,
    ) -> impl Iterator<Item = RemarkedPod<'a>> {
        self.0.iter().filter_map(move |(name, pod)| {
            Some(RemarkedPod {
                namespace,
                name,
                uid: &pod.uid,
                controller: pod.template.controller.as_ref(),
                labels: &pod.template.labels,
                remarks: pod.template.remarks.as_deref()?,
                containers_ready: pod.containers_ready,
            })
        })
    }
}
