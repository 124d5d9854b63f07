//! Why something was decided as it was, or is not decided yet: the one vocabulary of reasons.
//!
//! Audit annotations, metrics, logs, conditions and Events take their words from here, and
//! `docs/reasons.md` is the table of them. The words of the incumbent and of ELB are in
//! [`crate::gates::condition`], since a condition repeats ELB's own reason if ELB gave one.

use std::fmt;

/// One reason: its word, a sentence, and what the reader can do.
macro_rules! reasons {
    ($($name:ident: $sentence:literal, $remedy:literal;)+) => {
        /// Why something was decided as it was, or is not decided yet.
        ///
        /// The order of the first ones, up to [`Reason::NoBinding`], is the precedence of the pod
        /// hook: an admission takes the first reason that any of its bindings has.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $(#[doc = $sentence] $name,)+
        }

        impl Reason {
            /// All of them, in their order.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The word in audit annotations, metrics, logs, conditions and Events.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)+
                }
            }

            /// The reason of this word; `None` if there is none, as in a later version.
            pub fn of_word(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|reason| reason.as_str() == word)
            }

            /// What it means, in a sentence.
            ///
            /// ```
            /// use targetgate_core::reason::Reason;
            ///
            /// let reason = Reason::ServiceMissing;
            /// assert_eq!(reason.as_str(), "ServiceMissing");
            /// assert_eq!(reason.sentence(), "The binding's Service does not exist.");
            /// assert!(reason.remedy().starts_with("Create the Service"));
            /// ```
            pub fn sentence(self) -> &'static str {
                match self {
                    $(Self::$name => $sentence,)+
                }
            }

            /// What the reader can do about it; empty if nothing needs to be done.
            pub fn remedy(self) -> &'static str {
                match self {
                    $(Self::$name => $remedy,)+
                }
            }
        }
    };
}

reasons! {
    // The pod hook, by precedence.
    Injected: "The pod was given what it is due: its gate, or the sleep before its end.", "";
    AlreadyInjected: "The pod had it already: its gate, or the sleep before its end.", "";
    OptedOut: "`targetgate.dev/gate: \"false\"` on the Pod, Service or binding opts it out.",
        "Remove the annotation, and create the pod anew.";
    BindingTerminating: "The binding is being deleted, so no pod is registered for it any more.",
        "Create the binding anew once it is gone; if it stays, look at its finalizers.";
    GroupUnknown: "The binding names no target group: no name, and no ARN that can be read.",
        "Set `spec.targetGroupARN`, or create the binding anew while the hooks of bindings run.";
    SelectorMismatch: "The binding's Service does not select the pod.",
        "Compare the Service's selector with the pod's labels.";
    ServiceMissing: "The binding's Service does not exist.",
        "Create the Service, or mend `spec.serviceRef.name` of the binding.";
    ServiceExternalName: "The binding's Service is an `ExternalName`, which reaches no pod.",
        "Bind a Service with a selector.";
    ServiceWithoutSelector: "The binding's Service has no selector, so it selects no pod.",
        "Give the Service a selector.";
    TargetTypeUnknown: "The binding has no `targetType` yet.",
        "Set `spec.targetType`, or create the binding anew while the hooks of bindings run.";
    TargetTypeInstance: "The binding registers nodes, not pods.",
        "Bind a group of ip targets to give pods gates.";
    ApiNotGated: "`--gate-apis` leaves out the binding's API group.",
        "Add the API group to `--gate-apis`.";
    NoBinding: "The namespace has no binding.", "Create the binding before its pods.";

    // The pod hook, for reviews that it answered without a decision about gates.
    NotPodCreate: "The review is not about the creation of a v1 Pod.",
        "Compare the webhook's rules with those that are shipped.";
    NotReady: "Bindings, Services or Namespaces are not known yet: targetgate has just started.",
        "Create the pod anew.";
    NotWatched: "`--watch-namespaces` leaves out the pod's namespace.",
        "Add the namespace to `--watch-namespaces`, or take the opt-in label off it.";
    BadReview: "The review cannot be read, or is of another version.",
        "Look at the warning: it names the place.";
    BadObject: "The object cannot be read as a Pod.", "Look at the warning: it names the field.";
    Overloaded: "Too many reviews were in progress.", "Create the pod anew; raise the replicas.";
    Internal: "The hook failed inside.", "Report it, with the log.";

    // The end of a pod that has a gate, besides Injected and AlreadyInjected.
    Off: "Drain is off for the pod, by its annotation, its Namespace's label, or `--drain`.",
        "Label the Namespace `targetgate.dev/drain=sleep`, and create the pod anew.";
    HasPreStop: "Each main container has a `preStop` of its own, which is kept.",
        "See that it is as long as the load balancer needs.";
    Job: "The pod is a Job's, which ends by itself.", "";
    GraceZero: "The pod's grace period is 0, so that no `preStop` runs.",
        "Raise `terminationGracePeriodSeconds`.";
    ServerTooOld: "The API server is older than 1.31, so that it, or another one beside it, may refuse the sleep.",
        "Update the cluster.";
    ServerUnknown: "The API server has not told its version yet.",
        "Look at the log: it says why `/version` cannot be read. Then create the pod anew.";

    // The policy of the API server.
    RulesTooLarge: "The gate rules of the namespace exceed what the API server evaluates or stores, so that the webhook alone injects its gates.",
        "Give the Services selectors with a label that few of them share, or split the namespace.";

    // The hooks of bindings.
    NotReviewed: "The operation, or the subresource, is not reviewed.", "";
    Malformed: "The binding cannot be read.", "Mend the field that the message names.";
    Unchanged: "The update leaves the spec as it was.", "";
    UpdateNotDefaulted: "Updates get no defaults.", "";
    Complete: "Nothing was left to fill in.", "";
    Defaulted: "Absent fields were filled in.", "";
    Incomplete: "An absent field cannot be filled in.", "Set the field that the message names.";
    Valid: "Every rule holds.", "";
    Invalid: "Some rule does not hold.", "Mend the fields that the message names.";
    AwsUnavailable: "AWS did not answer.", "Look at the warning: it names the call and the remedy.";
    AwsDenied: "AWS refuses the call to the role that makes it, or there are no credentials.",
        "Look at the warning: it names the action and the role.";

    // Why a gate opens.
    Healthy: "ELB says that the target is healthy.", "";
    BindingGone: "No binding of the gate's name is there.", "";
    ServiceGone: "The binding's Service is not there.", "";
    NotSelected: "The binding's Service does not select the pod.", "";
    TargetGroupUnused: "No load balancer uses the target group, and `targetgate.dev/when-unused: open` is set.", "";
    GateTimeout: "The gate was not open within the time of `targetgate.dev/open-after`.",
        "Look at the Event: it says what kept the gate closed.";

    // Why a gate is closed.
    NotHealthy: "ELB says something else than healthy.",
        "Look at the condition: its reason and message are ELB's own.";
    NotRegistered: "The target group does not have the target, or deregisters it.",
        "Look at the controller that registers the binding's targets.";
    PortNotFound: "The Service's `targetPort` is a name that no container of the pod has.",
        "Name the container's port, or mend the Service's `targetPort`.";
    ServicePortNotFound: "The binding's Service has no port that `spec.serviceRef.port` names.",
        "Mend `spec.serviceRef.port` or the Service. `targetgate.dev/open-after` opens such gates all the same, and new pods with `targetgate.dev/gate: \"false\"` get none.";
    TargetGroupUnknown: "The binding names no target group that can be found.",
        "Set `spec.targetGroupARN`, or create the binding anew while the hooks of bindings run.";
    AddressChanged: "The pod has another address than the one for which its gate was opened.", "";
    AddressNotFound: "The pod has no address of the target group's IP address type.",
        "Bind a group of the pod's address family.";
    TargetGroupNotFound: "AWS does not have the target group.",
        "Create a binding to a group that exists, or delete this one.";

    // Why it is not decided yet whether a gate opens.
    PodNotDue: "A container of the pod is not ready, or the pod has no address.",
        "Look at the pod's own containers.";
    NotPolled: "ELB was not asked about the target since the pod is due; the next poll is scheduled.", "";
    AnswerDoubtful: "ELB's answer can be about a former pod of the same address.", "";
    AnswerStale: "ELB's last answer is too old to open the gate, so ELB is asked again.", "";
    AbsenceNotConfirmed: "A binding or Service seems absent, and a live read has not confirmed it yet.",
        "";
    // Why a binding's targets are not registered by targetgate, or not any more.
    RegistrationOff: "`--register`, or `targetgate.dev/register` on the binding, leaves its targets to another controller.",
        "Set `targetgate.dev/register: \"true\"` on the binding to have its targets registered.";
    HeldByAnother: "AWS Load Balancer Controller holds the binding, so targetgate neither registers nor deregisters its targets.",
        "Take its hooks away and scale it to nothing, or leave the binding to it.";
    Released: "`targetgate release` let go of the binding.",
        "Run `targetgate release --undo` for it.";
    QuicNotSupported: "The target group's protocol is QUIC, which needs a server id for each target.",
        "Leave the binding to AWS Load Balancer Controller.";
    PodZoneNotSupported: "`registerTargetsWithPodAvailabilityZone` is set, and targetgate does not know the zone of a pod.",
        "Leave the binding to AWS Load Balancer Controller, or unset the field.";
    GroupNotAllowed: "`--allow-arns` does not let the namespace bind this group, or assume this role for it.",
        "Ask whoever runs targetgate for a rule.";
    OlderBinding: "An older binding names the same target group, and not both are multi-cluster.",
        "Delete one of the two, or set `multiClusterTargetGroup: true` on both.";

    // What becomes of a target that targetgate registers.
    Registered: "The targets that are wanted are registered.", "";
    Registering: "Not all targets that are wanted are registered yet.", "";
    HeldByFloor: "Targets that are not wanted stay, because too few healthy ones would be left.",
        "Look at the pods: a common cause has made many of them unready, or the Service selects others.";
    TargetRefused: "ELB refuses to register the target.",
        "Look at ELB's own words: they name the address, its zone or its VPC.";
    GroupFull: "The target group, or its load balancer, takes no more targets.",
        "Ask AWS for a higher quota, or run fewer pods.";
    RecordFull: "The binding has more targets than its TargetRecord can name.",
        "Bind fewer pods to one group.";
    AddressOfAnotherPod: "A target that targetgate did not register has the address of a pod that the Service does not select.",
        "Deregister the target by hand, unless another controller needs it.";
    TargetsRemoved: "Another controller removes targets that targetgate registers.",
        "Find what else writes to the target group: one controller must own its targets.";
    CallRefused: "AWS refuses the calls that register or deregister targets.",
        "Look at the message: it names the call and AWS's error code.";
    CleanupFailed: "The targets of a binding that is being deleted could not be deregistered.",
        "Mend what AWS complains about, or set `targetgate.dev/abandon: \"true\"` on the binding to leave them.";
    Abandoned: "`targetgate.dev/abandon` let go of the binding with targets left in the group.",
        "Deregister them by hand: their addresses may be used again.";
    FinalizerNotPatched: "The binding's finalizers could not be patched, so it is neither taken over nor let go of yet.",
        "Look at the message: where it names a webhook whose controller is gone, remove that webhook.";
    MultiClusterChanged: "`multiClusterTargetGroup` of a binding whose targets are registered has changed; no target leaves the group for that.",
        "Look at the group's other bindings: they share it only where all are multi-cluster.";
    EndpointsLeftOut: "EndpointSlices of the Service have endpoints that name no pod of their namespace, and these are not registered.",
        "Give them a `targetRef` to the pod with that address, or have them taken with `--slice-addresses any`.";

    GroupNotResolved: "AWS was not asked yet, or did not answer, which group has the name in the binding.", "";

    // Lints of a pod's end, and what is seen of it.
    PreStopMissing: "A container has no `preStop`: it gets `SIGTERM` while its load balancer still sends.",
        "Label its Namespace `targetgate.dev/drain=sleep`, or give the container a `preStop.sleep`, and the pod a grace period that is longer by as much.";
    PreStopTooShort: "A container's own `preStop` is shorter than its load balancer needs to stop sending.",
        "Make it longer, and the grace period by as much; or take it out, so that drain gives the container one.";
    GraceTooShort: "The pod is killed while its load balancer still sends, whatever its `preStop` does.",
        "Raise `terminationGracePeriodSeconds` above what the load balancer needs, by the time that the application takes to end.";
    ShutdownTooShort: "The `preStop` leaves too little of the grace period for the application to end its requests.",
        "Raise `terminationGracePeriodSeconds` to the sleep and the application's longest request together.";
    ProbeGrace: "The grace period of a probe is shorter than the sleep: where that probe ends the container, the sleep is cut.",
        "Raise the probe's `terminationGracePeriodSeconds`, or take it out.";
    DeregistrationDelayTooLong: "The load balancer lets requests in flight go on for longer than the pod lives.",
        "Lower the group's `deregistration_delay.timeout_seconds` to the grace period, or raise the grace period.";
    ConnectionsTerminated: "The load balancer cuts connections while the pod would still serve them.",
        "Raise the group's `deregistration_delay.timeout_seconds` to the grace period, or turn `deregistration_delay.connection_termination.enabled` off.";
    TcpHealthCheck: "A TCP health check stays healthy while the application ends.",
        "Check the target's health by HTTP, or let the container sleep for as long as its load balancer needs.";
    ZoneEmptied: "A rollout takes away the only pod of a zone before its replacement is ready.",
        "Set `maxUnavailable: 0`, with `maxSurge: 1` on a DaemonSet, so that each pod ends after its replacement is ready; of a StatefulSet, run more pods than zones.";
    OnePodPerZone: "A zone has one pod: while that one ends, the load balancer's node there may have no target.",
        "Run two pods a zone, or turn cross-zone load balancing on.";
    HostRefused: "A probe or handler names a `host`, which Pod Security refuses since 1.34.",
        "Take the `host` out: the kubelet asks the pod's own address without it.";
    KubeletTooOld: "A kubelet does not know `preStop.sleep`, so its containers do not sleep.",
        "Upgrade the nodes to 1.30 or later.";
    NotReadyPublished: "AWS Load Balancer Controller deregisters a pod only once it is gone, because the Service publishes addresses that are not ready.",
        "Set `publishNotReadyAddresses: false` on the Service, or bind another one.";
    LegacyGate: "The pod keeps a legacy readiness gate, whose condition no controller writes.",
        "Remove the readiness gate from its template.";
    AnnotationUnreadable: "An annotation or label of ours has a value that cannot be read, so it counts as absent.",
        "Write a value that is documented, or remove it.";

    // Why a pod that exists has no gate, or would get none, although a binding selects it.
    NamespaceNotOptedIn: "The Namespace lacks the label `elbv2.k8s.aws/pod-readiness-gate-inject=enabled`, so the hook is not called for its pods.",
        "Label the Namespace, and create its pods anew.";
    PodNotOptedIn: "The pod lacks the label `elbv2.k8s.aws/pod-readiness-gate-inject=enabled`, so the hook is not called for it.",
        "Label the pod's template, and create the pod anew.";
    NamespaceExcluded: "The hook of pods leaves the Namespace out.",
        "Run the pods in another namespace, or take this one out of the excluded ones.";
    PodOlderThanBinding: "The pod was created before the binding, and no gate can be added to a pod that exists.",
        "Create the pod anew.";
    PodOlderThanOptIn: "The pod was created before its Namespace was labelled, and no gate can be added to a pod that exists.",
        "Create the pod anew.";
    Ungated: "Pods lack a gate that they would get if they were created now.",
        "Look at the Event: it names the cause, and what to do.";
    HookMissed: "The pod was created after the binding without its gate: the hook was out of reach, or the pod's labels or the Service were other ones then.",
        "Create the pod anew; if it gets no gate either, look at the hook's registration and at the audit log of the creation.";
    PodEnded: "The pod is being deleted, or has finished, so nothing waits for its gates.", "";
    HealthyNotOpened: "ELB says healthy, and the gate is not open yet: the leader's next poll is due, or ELB can mean a former pod of the same address.",
        "If this lasts longer than a minute, look at the log of the leader, which holds the Lease `targetgate`.";
    WaitingForTarget: "A pod has waited for its target for longer than a minute.",
        "Look at the Event: it has ELB's own words.";
    TargetHealthy: "The targets of all pods of which `WaitingForTarget` was told are healthy, or the pods are gone.", "";
    BindingLost: "The Service has lost its last binding of ip targets while pods live that it selects.",
        "Create the binding anew, and then the pods that were created meanwhile: they have no gate.";
    EndedEarly: "A pod ended sooner after its deletion began than its load balancer needs to stop sending.",
        "Compare its grace period and its containers' `preStop` with what the load balancer needs; a forced deletion or a lost node cuts both.";

    // Whether the API server itself injects gates (`--admission both`).
    PolicyInjects: "The API server gives new pods their gates, whether or not a process of targetgate runs.", "";
    PolicyAbsent: "The policy by which the API server injects gates, its binding, or the CRD of its rules is not there.",
        "Apply `deploy/components/policy`, or set `admission.mode: both` of the chart anew.";
    PolicyNotServed: "The API server does not serve MutatingAdmissionPolicies, as Kubernetes does from 1.36 on.",
        "Upgrade the cluster, or set `--admission webhook`, which is what there is until then.";
    RulesBehind: "The gate rules of the namespace are not those that its bindings give.",
        "Wait a minute; if it lasts, look at the log of the leader, which writes them, and at `targetgate_gate_rules_age_seconds`.";

    // What `doctor` finds on the way from the API server to ELB, besides some of those above.
    Sound: "Nothing is wrong with it.", "";
    NotKnown: "It is not known, because a right is missing, or what was asked did not answer.",
        "Look at the message: it names what was asked. Grant the right, or ask again.";
    BindingsNotServed: "The API server does not serve TargetGroupBindings in the version that targetgate reads.",
        "Apply the CRD: `targetgate crd | kubectl apply --server-side -f -`.";
    FieldsPruned: "The CRD of bindings is an older one, so the API server drops fields that it does not know.",
        "Apply the CRD anew: `targetgate crd | kubectl apply --server-side -f -`.";
    RecordsNotServed: "The API server does not keep TargetRecords, without which targetgate registers and deregisters nothing.",
        "Apply the CRD: `kubectl apply --server-side -f deploy/targets`, or upgrade the Helm release.";
    HookNotRegistered: "A hook is not registered, so the API server never calls it.",
        "Apply the webhook configurations that are shipped, or upgrade the Helm release.";
    HookRefusesPods: "The failure policy of the hook for pods is `Fail`: no pod is created while targetgate is away.",
        "Set its `failurePolicy: Ignore`, as shipped.";
    BundleEmpty: "The `caBundle` of a hook is empty, so the API server does not trust targetgate.",
        "With `--tls self` targetgate fills it in: look at its log. Else see that cert-manager's injector works, or write the CA into it.";
    BundleUnsound: "The `caBundle` of a hook holds something that is no certificate.",
        "Write the PEM of the CA into it, base64-encoded, and nothing else.";
    CertificateExpired: "The CA in the `caBundle` of a hook, or the certificate that is served, has expired.",
        "Look at the log of what renews it: targetgate with `--tls self`, else cert-manager or you.";
    CertificateUntrusted: "The `caBundle` of a hook does not verify the certificate that is served.",
        "Look at what writes the bundle: it must be the CA of the certificate that targetgate serves.";
    HookServiceMissing: "The Service that a hook names does not exist.",
        "Apply the shipped Service, or mend the namespace and name in the webhook's `clientConfig`.";
    HookServiceEmpty: "No endpoint of the Service that a hook names is ready.",
        "Look at the pods of targetgate and at their readiness: `kubectl get pods -l app.kubernetes.io/name=targetgate -A`.";
    HookNotReached: "The API server did not reach the hook, or did not call it.",
        "Mend the hops above it first; if they are sound, let the API server's network reach port 9443 of the pods.";
    LeaseNotHeld: "No replica holds the Lease and renews it, so no gate opens.",
        "Look at the logs of the replicas: one must reach the API server and may patch the Lease.";
    InstallationMissing: "There is no Deployment of targetgate of this name.",
        "Name it with `--installation NAMESPACE/NAME`, or install targetgate.";
    GroupNotHeld: "No hook and no policy keeps an update from moving a binding to another target group.",
        "Apply `deploy/components/immutability`, or let the validating hook be asked about `UPDATE`, as shipped.";
    RightMissing: "The service account of targetgate lacks a right that targetgate uses.",
        "Apply the roles that are shipped, or upgrade the Helm release with the values that belong to the flags.";
    CertificateExpiresSoon: "A certificate of the hooks, or the CA that verifies it, expires soon, and nothing has renewed it.",
        "Look at the log of what renews it: targetgate with `--tls self`, else cert-manager or you.";
    TwoRegistrars: "AWS Load Balancer Controller runs beside targetgate's registration, and its Lease is not renewed: both can write the same targets.",
        "Scale it to nothing, or turn `--register` off; if it renews another Lease, name that with `--incumbent-lease`.";
    IncumbentHooksLeft: "Hooks of AWS Load Balancer Controller are registered, and no process of it answers them.",
        "Delete its webhook configurations, or let it run again.";
    IncumbentInjects: "AWS Load Balancer Controller's hook for pods is registered beside targetgate's, so that pods can have their gates from either.",
        "Once targetgate gates all pods, take `mpod.elbv2.k8s.aws` out of the controller's configuration.";
    FinalizerLeft: "A binding has the finalizer of targetgate's registration, and nothing takes it off: the binding cannot be deleted.",
        "Let go of the bindings with `targetgate release`.";
    BindingDiffers: "A binding says something else about its target group than AWS does.",
        "Create a binding with AWS's values, and delete this one.";
    GroupNotAttached: "No load balancer uses the target group, so no target of it becomes healthy.",
        "Let a listener or a rule of a load balancer forward to the group; before a cut-over, `targetgate.dev/when-unused: open` opens gates all the same.";
    ZoneNotEnabled: "Targets are in an Availability Zone that is not enabled for their load balancer.",
        "Enable the zone for the load balancer, or run no pods of the Service there.";
    ForeignTargets: "Targets of the group are of no pod in this cluster that its bindings explain, and its bindings do not share it with other clusters.",
        "If another cluster binds the group, set `multiClusterTargetGroup: true` on the bindings of both, or each may deregister the other's targets; else deregister what was left behind by hand.";
    GraceRefused: "A policy of the cluster refuses pods with the grace period that drain gives them.",
        "Let the policy admit that grace period, or label the Namespace `targetgate.dev/drain=off`.";
    ListenerManaged: "AWS Load Balancer Controller made the binding and its listener, and puts the listener back when it is edited by hand.",
        "Edit the Ingress, Service or Gateway instead, or stop the controller before a switch by hand.";
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_reason_has_a_word_of_its_own_and_a_sentence() {
        let words: BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(words.len(), Reason::ALL.len());
        for reason in Reason::ALL {
            assert!(reason.sentence().ends_with('.'), "{reason}");
            let remedy = reason.remedy();
            assert!(remedy.is_empty() || remedy.ends_with('.'), "{reason}");
        }
    }
}
