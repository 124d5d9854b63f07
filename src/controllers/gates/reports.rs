//! Events of the loop about bindings and pods (contract 5.10).

use targetgate_core::gates::machine::action::Subject;
use targetgate_core::index::BindingKey;
use targetgate_core::reason::Reason;

use crate::controllers::about::about_binding;
use crate::controllers::gates::Loop;
use crate::kubernetes::events::About;
use crate::state::cache::WatchedResource;

impl Loop {
    /// Tells by an Event that the gates of a binding stay closed until it is mended, or that a gate was opened
    /// whatever ELB says.
    pub(super) async fn tell(&self, about: Subject, reason: Reason, message: &str) {
        let (about, what) = match about {
            Subject::Binding(object, api) => (
                about_binding(&self.cache, BindingKey { object, api }),
                "The gates of this binding stay closed",
            ),
            Subject::Pod(object, uid) => (
                About {
                    kind: WatchedResource::Pods,
                    object,
                    uid: Some(uid.to_string()),
                },
                "The gate was opened",
            ),
        };
        let note = format!("{what}: {message}. {}", reason.remedy());
        self.events
            .warn(&about, "OpenGate", reason.as_str(), note.trim_end())
            .await;
    }
}
