//! Tells what the registrar knows, for `explain` (contract 10).

use targetgate_core::explain::leader::{AT_MOST, RegistrarView, RegistrationView};
use targetgate_core::targets::machine::Registrar;

use crate::state::questions::Question;

pub(super) fn answer(registrar: &Registrar, question: Question<RegistrarView>) {
    let (known, left_out) = registrar.known(&question.namespace, AT_MOST);
    let view = RegistrarView {
        leads: registrar.leads(),
        bindings: known.iter().map(RegistrationView::new).collect(),
        left_out,
    };
    question.answer(view);
}
