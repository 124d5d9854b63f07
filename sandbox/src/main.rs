//! `targetgate-sandbox`: the demo, and a control plane for experiments.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use targetgate_sandbox::controlplane::{self, ControlPlane};
use targetgate_sandbox::demo::{self, Ended, Settings};
use targetgate_sandbox::interrupt::Interrupt;
use tracing_subscriber::EnvFilter;

/// A model of the world around targetgate, and a demo in it.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Roll a Deployment four times under traffic: without gates, with gates, with gates and a
    /// preStop sleep of the application's own, and with gates and drain.
    Demo(DemoArguments),
    /// Run etcd, kube-apiserver and kube-controller-manager on loopback until Ctrl-C.
    Controlplane,
}

#[derive(Args)]
struct DemoArguments {
    /// The targetgate binary [default: the one in this program's folder]
    #[arg(long, value_name = "PATH")]
    targetgate: Option<PathBuf>,
    /// Multiply the delays of ELB, kubelet and preStop by this factor
    #[arg(long, value_name = "FACTOR", default_value = "0.1", value_parser = factor)]
    scale: f64,
    /// Requests per second
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=2000))]
    rate: u32,
    /// Keep-alive connections that the requests share
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    connections: u16,
    /// Run the pods in the cluster of this file's current context, not in the sandbox's own. The
    /// demo creates a namespace and nodes there, and removes them at the end
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The address of this machine at which the API server reaches targetgate's hooks
    #[arg(
        long,
        value_name = "IP",
        default_value = "127.0.0.1",
        requires = "kubeconfig"
    )]
    hooks_ip: IpAddr,
    /// The port of 127.0.0.1 at which a browser shows the demo as a moving picture; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    page_port: u16,
    /// Keep everything running after the table, and print commands to inspect it
    #[arg(long)]
    keep: bool,
    /// Also write the results to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn factor(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(factor) if (0.01..=1.0).contains(&factor) => Ok(factor),
        _ => Err("a number from 0.01 to 1".to_owned()),
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    // An error means that a provider is installed already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    // kube logs every refusal of the API server, but callers report those that matter.
    let quiet = |_| EnvFilter::new("error,kube_client=off");
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(quiet))
        .init();
    let ended = match Arguments::parse().command {
        Command::Demo(arguments) => run_demo(arguments).await,
        Command::Controlplane => run_control_plane().await,
    };
    match ended {
        Ok(Ended::AsItShould) => ExitCode::SUCCESS,
        Ok(Ended::Otherwise) => ExitCode::FAILURE,
        // A shell reports this code for a program that Ctrl-C ended.
        Ok(Ended::Interrupted) => ExitCode::from(130),
        Err(error) => {
            eprintln!("targetgate-sandbox: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run_demo(arguments: DemoArguments) -> anyhow::Result<Ended> {
    demo::run(demo::Options {
        targetgate: match arguments.targetgate {
            Some(path) => path,
            None => beside_this_program()?,
        },
        settings: Settings {
            rate: arguments.rate.into(),
            connections: arguments.connections.into(),
            ..Settings::scaled(arguments.scale)
        },
        kubeconfig: arguments.kubeconfig,
        hooks_ip: arguments.hooks_ip,
        page_port: arguments.page_port,
        keep: arguments.keep,
        json: arguments.json,
    })
    .await
}

async fn run_control_plane() -> anyhow::Result<Ended> {
    let options = controlplane::Options {
        controller_manager: true,
        ..controlplane::Options::default()
    };
    // From here on a signal ends the control plane in good order.
    let mut interrupt = Interrupt::listen()?;
    let mut control_plane = tokio::select! {
        started = ControlPlane::start(options) => started?,
        () = interrupt.received() => return Ok(Ended::Interrupted),
    };
    println!("export KUBECONFIG={}", control_plane.kubeconfig().display());
    eprintln!("Ready until Ctrl-C. There is no scheduler and no kubelet, so pods stay Pending.");
    tokio::select! {
        error = control_plane.broken() => Err(error.into()),
        () = interrupt.received() => Ok(Ended::Interrupted),
    }
}

fn beside_this_program() -> anyhow::Result<PathBuf> {
    let this = std::env::current_exe().context("cannot find this program; use --targetgate")?;
    Ok(this.with_file_name(format!("targetgate{}", std::env::consts::EXE_SUFFIX)))
}
