//! What the loop tells of bindings, and of gates that it opened whatever ELB says, with all other notices (contract 10).

use std::sync::Arc;

use targetgate_core::gates::machine::action::Subject;
use targetgate_core::index::BindingKey;
use targetgate_core::names::ObjectKey;
use targetgate_core::notices::{self, Finding, Found, Regarded, Topic};
use targetgate_core::reason::Reason;

use crate::controllers::gates::{Loop, Work};

impl Loop {
    /// Tells that the gates of a binding stay closed until it is mended, or that a gate was opened whatever ELB says.
    pub(super) fn report_problem(
        &self,
        work: &mut Work,
        about: Subject,
        reason: Reason,
        message: Arc<str>,
    ) {
        match about {
            Subject::Binding(object, api) => {
                let note = with_remedy("The gates of this binding stay closed", reason, &message);
                self.note_of_binding(work, &BindingKey { object, api }, reason, note);
            }
            Subject::Pod(pod, uid) => self.note_opened(work, &pod, &uid, reason, &message),
        }
    }

    pub(super) fn note_of_binding(
        &self,
        work: &mut Work,
        binding: &BindingKey,
        reason: Reason,
        note: String,
    ) {
        let regarded = |index: &_| Regarded::binding_of(binding, index);
        let topic = Topic::new(self.cache.read(regarded), reason);
        work.seen.insert(topic, Found::news(note));
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
            let found = notices::add_pod(&mut work.seen, topic, &key.name, || {
                with_remedy("its gate was opened", reason, message)
            });
            found.finding = Finding::Happened;
        }
    }
}

fn with_remedy(what: &str, reason: Reason, message: &str) -> String {
    let note = format!("{what}: {message}. {}", reason.remedy());
    note.trim_end().to_owned()
}
