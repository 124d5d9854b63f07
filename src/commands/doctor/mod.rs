//! `targetgate doctor`: reads each hop from the API server to ELB once, and says what the core makes of it
//! (contract 10).

use std::collections::BTreeMap;
use std::io;
use std::io::Write;

use jiff::Timestamp;
use kube::Client;
use targetgate_core::doctor;
use targetgate_core::doctor::{Facts, State, Unread};
use targetgate_core::names::ObjectKey;
use thiserror::Error;

use crate::args::{Doctor, Output};
use crate::commands::doctor::hooks::Registered;
use crate::commands::doctor::objects::{Binding, OptedIn};
use crate::commands::serve::LEASE;
use crate::commands::waiting::with_progress;
use crate::commands::{cluster, json};

mod aws;
mod ends;
mod group_ends;
mod hooks;
mod incumbent;
mod installed;
mod objects;
mod policy;
mod read;
mod rights;
mod rollouts;
mod trials;

const BROKEN: u8 = 1;
const UNKNOWN: u8 = 3;

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum DoctorError {
    /// No cluster can be asked.
    #[error("{0:#}")]
    NoCluster(anyhow::Error),
    #[error("cannot write to standard output: {0}")]
    Output(#[from] io::Error),
}

impl DoctorError {
    /// The exit status: what cannot be asked is unknown.
    pub fn exit_status(&self) -> u8 {
        UNKNOWN
    }
}

/// Looks at each hop, and writes the answer. Returns the exit status.
///
/// # Errors
/// There is no answer.
pub async fn run(settings: &Doctor, out: &mut impl Write) -> Result<u8, DoctorError> {
    let client = cluster::of_flags(&settings.cluster).await;
    let client = client.map_err(DoctorError::NoCluster)?;
    let facts = with_progress("reading hop after hop", facts(settings, &client)).await;
    let answer = doctor::diagnose(&facts);
    let text = match settings.output {
        Output::Text => doctor::render(&answer),
        Output::Json => json(&answer),
    };
    out.write_all(text.as_bytes())?;
    Ok(match answer.state {
        State::Sound | State::Advice => 0,
        State::Broken => BROKEN,
        State::Unknown => UNKNOWN,
    })
}

async fn facts(settings: &Doctor, client: &Client) -> Facts {
    let deployment = settings.installation.key(client.default_namespace());
    let installed = installed::read(client, deployment).await;
    let lease_key = ObjectKey::new(installed.deployment.namespace.clone(), LEASE);
    let certificate = hooks::certificate(client, &installed).await;
    let records_crd = async {
        match installed.registers() {
            true => Some(objects::records_crd(client).await),
            false => None,
        }
    };
    let (crd, records_crd, registered, lease, stored, opted_in, rights, deployments, sets, kubelet) = tokio::join!(
        objects::bindings_crd(client),
        records_crd,
        hooks::read(client, &installed.settings, &certificate),
        objects::lease(client, &lease_key),
        objects::stored_bindings(client),
        objects::opted_in(client),
        rights::read(client, &installed),
        incumbent::deployments(client),
        rollouts::sets(client),
        ends::oldest_kubelet(client),
    );
    let bindings = stored.as_ref().map(objects::bindings).map_err(Clone::clone);
    let known: &[Binding] = bindings.as_deref().unwrap_or_default();
    let places: &[OptedIn] = opted_in.as_deref().unwrap_or_default();
    let place = trials::place(settings.namespace.as_deref(), known, places);
    let question = aws::Question {
        off: settings.no_aws,
        registers: installed.registers(),
        bindings: &bindings,
        namespaces: places,
    };
    let (services, pod_trial, binding_trial, incumbent, said) = tokio::join!(
        hooks::services(client, registered.as_ref().ok()),
        trials::pod(client, &place, known),
        trials::binding(client, &place, known),
        incumbent::read(client, &installed, &deployments),
        aws::read(&question),
    );
    let rollouts = sets.rollouts(deployments.as_deref().unwrap_or_default());
    let around = ends::Surroundings {
        client,
        installed: &installed,
        bindings: known,
        incumbent: &incumbent,
        group_ends: &said.ends,
        rollouts: &rollouts,
        oldest_kubelet: kubelet.as_ref().ok().copied().flatten(),
    };
    let ((told, ends_left_out), graces, injection, immutability) = tokio::join!(
        around.pods(&opted_in),
        around.graces(places),
        policy::injection(client, &installed, &stored),
        policy::immutability(client),
    );
    let (ends, lost, pods) = match told {
        Ok(told) => (Ok(told.ends), told.lost, told.pods),
        Err(why) => (Err(why), vec![], BTreeMap::new()),
    };
    let mut ends_unread = said.unread;
    ends_unread.extend(sets.unread());
    ends_unread.extend(kubelet.err().map(|why| Unread {
        what: "nodes".to_owned(),
        why,
    }));
    let selected = |place: &OptedIn| match &registered {
        Ok(registered) => registered.selects(&place.labels),
        Err(why) => Err(why.clone()),
    };
    let namespaces = opted_in.as_ref().map_err(Clone::clone).map(|places| {
        let named = places.iter().map(|place| doctor::Namespace {
            name: place.name.clone(),
            selected: selected(place),
        });
        named.collect()
    });
    Facts {
        now: Timestamp::now(),
        installation: (installed.deployment.clone(), installed.fact()),
        rights,
        incumbent,
        crd,
        records_crd,
        certificate: certificate.map(|served| served.validity),
        services,
        pod_trial,
        binding_trial,
        injection,
        immutability,
        lease: (lease_key, lease),
        identity: said.identity,
        groups: said.groups,
        groups_left_out: said.left_out,
        changes: said.changes,
        namespaces,
        ends,
        ends_unread,
        pods,
        lost,
        ends_left_out,
        graces,
        bindings: bindings.map(|all| all.iter().map(Binding::fact).collect()),
        hooks: registered.map(Registered::facts),
    }
}
