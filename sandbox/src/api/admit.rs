//! The calls of webhooks that a write makes.

use std::sync::Arc;

use super::{
    admission::{Operation, Review},
    object::Object,
    status::Status,
    target::Target,
    write::Write,
};

impl Write<'_> {
    /// Lets the mutating webhooks change the new state of an object.
    pub(super) async fn mutate(
        &mut self,
        operation: Operation,
        target: &Target,
        object: Object,
        old: Option<&Object>,
    ) -> Result<Object, Status> {
        let mut review = self.review(operation, target, Some(object.clone()), old);
        self.api.admission.mutate(self.api, &mut review).await?;
        let changed = review.object.take();
        self.warnings.append(&mut review.warnings);
        Ok(changed.unwrap_or(object))
    }

    /// Asks the validating webhooks about a state that has passed the server's own checks.
    pub(super) async fn validate(
        &mut self,
        operation: Operation,
        target: &Target,
        object: Option<&Object>,
        old: Option<&Object>,
    ) -> Result<(), Status> {
        let mut review = self.review(operation, target, object.cloned(), old);
        self.api.admission.validate(self.api, &mut review).await?;
        self.warnings.append(&mut review.warnings);
        Ok(())
    }

    /// Asks the webhooks of both phases about a deletion, which has no object to change.
    pub(super) async fn admit_deletion(
        &mut self,
        target: &Target,
        old: &Object,
    ) -> Result<(), Status> {
        let mut review = self.review(Operation::Delete, target, None, Some(old));
        self.api.admission.mutate(self.api, &mut review).await?;
        self.warnings.append(&mut review.warnings);
        self.validate(Operation::Delete, target, None, Some(old))
            .await
    }

    fn review<'r>(
        &self,
        operation: Operation,
        target: &'r Target,
        object: Option<Object>,
        old: Option<&'r Object>,
    ) -> Review<'r> {
        // A Namespace is selected by its own labels.
        let namespace_labels = if target.served.is("", "namespaces") {
            object.clone().or_else(|| old.cloned()).map(Arc::new)
        } else {
            self.api.namespace(&target.namespace)
        };
        Review {
            operation,
            target,
            object,
            old,
            dry_run: self.dry_run,
            namespace_labels,
            warnings: vec![],
        }
    }
}
