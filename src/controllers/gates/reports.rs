//! Events of the loop about bindings, and what it tells the owners of pods (contract 5.10).

use std::sync::Arc;

use targetgate_core::gates::machine::action::Subject;
use targetgate_core::index::BindingKey;
use targetgate_core::names::ObjectKey;
use targetgate_core::notices::{self, Regarded, Topic};
use targetgate_core::reason::Reason;
use tokio::task::JoinSet;

use crate::controllers::about::about_binding;
use crate::controllers::gates::{Done, Loop, Work};

impl Loop {
    /// Tells that the gates of a binding stay closed until it is mended, or that a gate was opened whatever ELB says.
    pub(super) fn report_problem(
        &self,
        work: &mut Work,
        tasks: &mut JoinSet<Done>,
        about: Subject,
        reason: Reason,
        message: Arc<str>,
    ) {
        match about {
            Subject::Binding(object, api) => {
                let reporter = self.clone();
                tasks.spawn(async move {
                    let binding = BindingKey { object, api };
                    reporter.tell(binding, reason, &message).await;
                    Done::Told
                });
            }
            Subject::Pod(pod, uid) => self.note_opened(work, &pod, &uid, reason, &message),
        }
    }

    async fn tell(&self, binding: BindingKey, reason: Reason, message: &str) {
        let about = about_binding(&self.cache, binding);
        let note = with_remedy("The gates of this binding stay closed", reason, message);
        self.events
            .warn(&about, "OpenGate", reason.as_str(), &note)
            .await;
    }

    /// Notes a gate that was opened whatever ELB says, for the pod's owner.
    fn note_opened(
        &self,
        work: &mut Work,
        key: &ObjectKey,
        uid: &str,
        reason: Reason,
        message: &str,
    ) {
        let pod = self.cache.read(|index| index.pod(key).cloned());
        if let Some(pod) = pod.filter(|pod| *pod.uid == *uid) {
            let topic = Topic::new(Regarded::owner(&pod), reason);
            notices::add_pod(&mut work.seen, topic, &key.name, || {
                with_remedy("its gate was opened", reason, message)
            });
        }
    }
}

fn with_remedy(what: &str, reason: Reason, message: &str) -> String {
    let note = format!("{what}: {message}. {}", reason.remedy());
    note.trim_end().to_owned()
}
