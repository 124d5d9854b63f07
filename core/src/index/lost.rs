//! Bindings that are gone, until the health loop takes that in.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::index::Index;
use crate::model::{Binding, TargetType};
use crate::names::ObjectKey;

/// At most so many are kept, the latest. Chosen: they are taken within seconds.
const MOST: usize = 1024;

/// A binding of ip targets that is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostBinding {
    /// The Service that it named.
    pub service: ObjectKey,
    pub binding: Arc<str>,
}

/// The bindings of ip targets that are gone, the latest last.
#[derive(Debug, Default)]
pub(crate) struct NewlyLost(VecDeque<LostBinding>);

impl NewlyLost {
    pub(crate) fn push(&mut self, namespace: &Arc<str>, binding: &Binding) {
        if binding.target_type != Some(TargetType::Ip) || binding.opted_out {
            return;
        }
        if self.0.len() >= MOST {
            self.0.pop_front();
        }
        self.0.push_back(LostBinding {
            service: ObjectKey::new(namespace.clone(), binding.service.clone()),
            binding: binding.name.clone(),
        });
    }

    pub(crate) fn take(&mut self) -> Vec<LostBinding> {
        self.0.drain(..).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Index {
    /// Removes and returns the bindings of ip targets that are gone since the last call.
    pub fn take_lost(&mut self) -> Vec<LostBinding> {
        self.newly_lost.take()
    }

    /// Whether [`Self::take_lost`] returns any.
    pub fn has_lost(&self) -> bool {
        !self.newly_lost.is_empty()
    }
}
