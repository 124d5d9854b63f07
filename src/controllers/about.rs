//! The objects that Events are about.

use targetgate_core::index::BindingKey;

use crate::kubernetes::events::About;
use crate::state::cache::{Cache, WatchedResource};

/// A binding as an Event is about it, with the UID by which `kubectl describe` finds the Event.
pub(super) fn about_binding(cache: &Cache, binding: BindingKey) -> About {
    let uid = cache.read(|index| {
        let binding = index.binding(&binding)?;
        binding.uid.as_deref().map(str::to_owned)
    });
    About {
        kind: WatchedResource::Bindings(binding.api),
        object: binding.object,
        uid,
    }
}
