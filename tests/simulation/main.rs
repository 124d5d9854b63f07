//! Simulates the whole product in one world. [`seeds`] drive it through faults and accidents. [`scenarios`]
//! have only the accident that they are about, and assert its outcome.
//!
//! One thread, time paused, no socket: the sandbox's API server and ELB, two replicas of the product (admission
//! over TLS, index, loop, keeper of certificates, election), and a driver that draws steps from a seed. Pods,
//! rollouts, bindings, Services and leaders come and go. Pods without gates use the same addresses, addresses
//! change, and bindings under deletion stay. Annotations that let gates open and close otherwise are edited, and
//! load balancers begin and cease to use groups. Watches break, are late, and are answered with 410.
//! Lists come in pages, of which any may fail. Requests are refused, conflict, time out after they took effect, and
//! arrive when their sender is dead. The Lease, or the pods, are out of reach of the leader while everything else is
//! not. All writes of conditions fail. A kubelet writes to a pod right after us. ELB throttles, hangs, fails, answers
//! late and from the past, in two accounts, and addresses are reused. Clocks jump, and replicas die at any poll. Then
//! the faults end, and everything has to recover.
//!
//! In every other seed the product registers the targets itself, and nothing else does. Its calls are lost, late and
//! throttled, ELB shows registrations late, all pods of an app become unready one after the other, and others register
//! targets and take some out. For a while ELB refuses single targets, or calls addresses outside the VPC, and groups are
//! full. Services are gone for minutes, or are back and no watch says so. A replica that sees no pods takes the lead.
//! Bindings share groups, some of them with other clusters, and registration is turned off for some. The
//! incumbent comes, puts its finalizer on all bindings, registers and deregisters, and goes again.
//! Services have no selector: their EndpointSlices name pods of any app with or without UID, pods that are gone,
//! and addresses without a pod; endpoints are in several slices, conditions flip, ports get other numbers, slices are
//! emptied and back, and Services get a selector and lose it.
//!
//! A scenario has the same world, replicas, lines and judges, but calm weather, and as many replicas as it
//! starts. It has no kubelet, and only the scenario itself registers targets. It does not note its actions in
//! [`facts`], so scenarios assert *no gate opened without right* themselves.
//!
//! # The invariants
//!
//! Judged at each write and call, by [`witness`] and [`calls`]:
//!
//! - *no gate opened without right*: ELB called the pod's own target healthy, in an answer that this replica
//!   requested when the pod was ready, and received within the last minute. If this replica knew another pod
//!   with that address behind the gate (in calm weather: any pod with that address), then only after an answer
//!   that said otherwise, or after the group's proving time. Or the binding or its Service was absent, or did not
//!   select the pod, at least 30 s ago, and at some time of the last minute. Or the binding was being deleted
//!   for as long, and ELB answered for as long that it does not have the target.
//!   Or an annotation says so: the pod was due for as long as `open-after` says, or ELB answered within the last
//!   minute that the target is unused, under `when-unused: open`.
//! - *open stays open*: no replica closes a gate that is open, unless its pod has another address, or it is under
//!   `after-open: follow` and ELB answered this replica within the last minute, in an answer that was requested
//!   when the pod was ready, that the target is not healthy.
//! - *guarded*: each status patch names UID and version.
//! - *fenced*: no status patch is sent while another replica holds the Lease.
//! - *the leader sees*: while one replica sees pods, another one whose watch of pods has failed for more than a minute
//!   does not hold the Lease. Judged after the accident that brings it about.
//! - *no late write of a former leader*: a write that arrives after another replica took the lead changes
//!   nothing if the pod was written to since it was sent.
//! - *nothing lost*: a status patch changes the condition of one gate, a patch of a webhook configuration
//!   changes its `caBundle`, and neither changes anything else.
//! - *no gate lost or doubled*: an admission keeps everything in a pod and adds each gate once; a status patch
//!   keeps the number of conditions, with each type once.
//! - *the rate is kept*: in no window of time, of any length, does a replica call ELB more often than the burst
//!   and what the highest rate allows in that length. It begins with a lower rate and climbs, and its own metric
//!   of the rate never exceeds the highest.
//! - *drained once*: a pod that gets a gate from us where drain is on has exactly one sleep in each main container
//!   without a `preStop` of its own, and a grace period of what its owner gave it and the sleep, also where it was
//!   copied from a running pod. Any other pod, and one that was made before a replica knew the API server's version,
//!   has what its owner gave it.
//! - *no pod refused*: the API server finds no pod invalid.
//! - *nothing panics*, no part of the product ends, and all of it rests once there is nothing to do.
//!
//! Judged at each call that registers or deregisters and at each write of a record, by [`registration`]:
//!
//! - *the record names all*: what is registered stands in a record of its group before, and what the product has put
//!   in stands there until it was deregistered.
//! - *only ours leave*: what is deregistered stands in a record of its group.
//! - *only unwanted ones leave*: no pod, no slice and no binding that this replica knows wants what it deregisters. The
//!   slices that it knows are read from what the API server answered it.
//! - *only wanted ones go in*: a binding that this replica knows wants what it registers.
//! - *the floor*: the target of a living pod leaves only while ELB calls another one healthy that is wanted, in an answer
//!   to this replica of the last 15 s; or once the Service has been gone for five and a half minutes.
//! - *seen first*: no leader deregisters anything whose watch of some resource has failed since before it leads.
//! - *never two registrars*: no replica that has read in the incumbent's Lease that it leads registers anything, or
//!   deregisters anything but for a binding that is being deleted.
//! - *fenced* and *the rate is kept*, as above; these calls have an allowance of their own.
//!
//! Judged in the end, by [`ending`]:
//!
//! - *nobody stuck*: within three minutes of the end of all faults, each gate of each ready pod is open.
//! - *the gates that are due*: a pod that is created then gets exactly the gates that it should, and they open.
//! - *the index is true*: each replica knows exactly the bindings, Services and gated pods that exist, and the
//!   leader waits for no gate.
//! - *bounded*: there are no more tasks than two idle replicas need.
//!
//! What AWS took at last, after it had refused it, may come three minutes after the longest pause between two attempts.
//! Where the product registers, *nobody stuck* also says that each wanted target is in its group, that no target of
//! others has left, and that none of a pod that has ended is left. Judged after that, by [`registered`]:
//!
//! - *a refused target holds up nobody*: what becomes ready with a target that ELB refuses is in within 10 s.
//! - *room is used*: of the pods of a full group, that which has been ready longest is in within 10 s of the time at which
//!   there is room.
//! - *given up in time*: the targets of a Service that is gone stay for five minutes, and have left a minute and a half
//!   later.
//! - *the slices are followed*: what any slice of a Service without a selector names is in, at the slice's own port; what
//!   none names any more leaves, but never all of it. Judged by [`sliced`].
//! - *late calls of a former leader are undone*: by the second look of its successor, whether the call has put in what
//!   ended meanwhile or taken out what is wanted again.
//!
//! Judged at the very end, in some seeds, by [`policies`] and [`dropped`]:
//!
//! - *follows*: once the target of a pod under `after-open: follow` fails, its gates close within a minute and a
//!   half, and open again once it passes.
//! - *dropped groups are told*: an Event says within five minutes that AWS does not have the group of a binding,
//!   though no pod waits for it.
//!
//! Judged before that by [`promptness`], while one account is throttled for good and the writes of conditions fail for
//! a while, and nothing else is wrong:
//!
//! - *throttled apart*: healthy gates of another account are written as soon as if it were not throttled.
//! - *written again in time*: a gate that ELB calls healthy and whose write failed opens within a second after
//!   the pause that followed the last failure. If another client's write conflicted with ours, it opens within
//!   a second of the answer.
//!
//! The same seed makes the same trace, byte by byte. `SEED=n` runs one seed and prints its trace. `SEEDS=n`
//! runs that many from `FIRST_SEED` on, as `make simulate` does, until `ENOUGH` (3) have failed.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod absences;
mod accidents;
mod accounts;
mod calls;
mod direct;
mod drained;
mod driver;
mod dropped;
mod ending;
mod facts;
mod incumbent;
mod known;
mod known_registered;
mod kubelet;
mod limits;
mod line;
mod outcome;
mod policies;
mod promptness;
mod random;
mod registered;
mod registration;
mod replica;
mod scenarios;
mod seeds;
mod sharing;
mod sliced;
mod slices;
mod steps;
mod told_slices;
mod trace;
mod witness;
mod world;
