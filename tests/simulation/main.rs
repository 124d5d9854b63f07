//! The whole product in one simulated world. [`seeds`] drive it through faults and accidents;
//! [`scenarios`] have no accidents but those that they are about, and assert what comes of each.
//!
//! One thread, time paused, no socket: the sandbox's API server and ELB, two replicas of the product
//! (admission over TLS, index, loop, certificate keeper, election), and a driver that draws steps from
//! a seed. Pods, rollouts, bindings, Services and leaders come and go; watches are cut, late, told 410;
//! requests are refused, conflict, time out after having worked, arrive when their sender is dead; the
//! Lease is out of reach while all else is not; all writes of conditions fail; a kubelet writes to a pod
//! right after us; ELB throttles, hangs, fails, answers late and from the past, in two accounts, and
//! addresses are re-used; clocks jump; replicas die at any poll. Then the faults end, and what is left has
//! to come right.
//!
//! A scenario has the same world, replicas, lines and judges, calm weather, and as many replicas as it starts;
//! no kubelet acts in it, and nobody registers targets but the scenario itself. What it does is not noted
//! in [`facts`], and so *no gate opened without right* is asserted by scenarios themselves.
//!
//! # The invariants
//!
//! Judged at each write and call, by [`witness`] and [`calls`]:
//!
//! - *no gate opened without right*: ELB said healthy for the pod's own target, in an answer that this
//!   replica asked for when the pod was due, and heard within the last minute; where this replica knew
//!   another pod of that address behind the gate, only after an answer that said otherwise, or after
//!   the group's proving time. Or the binding or its Service was absent, or did not select the pod, 30 s
//!   ago or before, and at some time of the last minute.
//! - *open stays open*: nobody of us closes a gate that is open.
//! - *guarded*: each status patch names UID and version.
//! - *fenced*: no status patch is sent while another replica holds the Lease.
//! - *no late write of a former leader*: one that arrives once another leads changes nothing if
//!   anybody has written to the pod since it was sent.
//! - *nothing lost*: a status patch changes one gate's condition, a patch of a webhook configuration
//!   its `caBundle`, and nothing else.
//! - *no gate lost or doubled*: an admission leaves everything of a pod and adds each gate once; a
//!   status patch leaves as many conditions, each type once.
//! - *the rate is kept*: in no window of time, of any length, does a replica ask ELB more often than the
//!   burst and what the highest rate allows in that length. It begins with a lower rate and climbs.
//! - *nothing panics*, no part of the product ends, and all of it rests once there is nothing to do.
//!
//! Judged in the end, by [`ending`]:
//!
//! - *nobody stuck*: within three minutes of the end of all faults every gate of every pod that is
//!   ready is open.
//! - *the gates that are due*: a pod created then gets exactly the gates that it should, and they open.
//! - *the index is true*: each replica knows the bindings, Services and gated pods that there are, and
//!   no others; its leader waits for no gate.
//! - *bounded*: there are no more tasks than two idle replicas need.
//!
//! Judged then, while one account is throttled for good and the writes of conditions fail for a while, and
//! nothing else is wrong, by [`promptness`]:
//!
//! - *throttled apart*: healthy gates of another account are written as soon as if it were not throttled.
//! - *written again in time*: a gate that ELB calls healthy and that could not be written opens within a
//!   second of the pause that the last failure was followed by; where another's write was in the way of
//!   ours, within a second of hearing of that.
//!
//! The same seed makes the same trace, byte by byte. `SEED=n` runs one seed and prints its trace,
//! `SEEDS=n` runs so many from `FIRST_SEED` on, as `make simulate` does, until `ENOUGH` (3) have failed.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod accidents;
mod accounts;
mod calls;
mod direct;
mod driver;
mod ending;
mod facts;
mod known;
mod kubelet;
mod line;
mod outcome;
mod promptness;
mod random;
mod replica;
mod scenarios;
mod seeds;
mod steps;
mod trace;
mod witness;
mod world;
