//! The `targetgate` command.

use std::env;
use std::fmt::Display;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::CommandFactory as _;
use jiff::Timestamp;
use targetgate::args::{
    CertsCommand, Cli, Command, DevCerts, Doctor, Explain, Release, Settings, Watch,
};
use targetgate::commands::doctor::DoctorError;
use targetgate::commands::explain::ExplainError;
use targetgate::commands::release::ReleaseError;
use targetgate::commands::{
    certs, doctor as doctor_command, explain as explain_command, release as release_command,
    serve as serve_command,
};
use targetgate::telemetry;
use targetgate_core::binding::spec;

fn main() -> ExitCode {
    // First of all: the first TLS connection without an installed provider would choose one for the process.
    let installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
    debug_assert!(installed.is_ok());
    let done = match parse().command {
        Command::Serve(settings) => serve(*settings),
        Command::Explain(settings) => explain(&settings),
        Command::Watch(settings) => watch(&settings),
        Command::Release(settings) => release(&settings),
        Command::Doctor(settings) => doctor(&settings),
        Command::Crd => print(&spec::yaml()),
        Command::Certs(CertsCommand::Dev(wanted)) => make_dev_certs(&wanted),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("targetgate: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Reads the command line. kubectl runs `kubectl-targetgate` as its plugin, whose help says how it was called.
fn parse() -> Cli {
    let called = env::args_os().next().unwrap_or_default();
    let file = Path::new(&called).file_name();
    let is_plugin = file.is_some_and(|file| file.as_encoded_bytes().starts_with(b"kubectl-"));
    let mut command = Cli::command();
    if is_plugin {
        command = command.bin_name("kubectl targetgate");
    }
    Cli::of(&command.get_matches()).unwrap_or_else(|error| error.exit())
}

fn serve(settings: Settings) -> anyhow::Result<ExitCode> {
    telemetry::init(settings.log_format, settings.log_level.clone());
    block_on(serve_command::run(settings))?.map(ExitCode::from)
}

fn explain(settings: &Explain) -> anyhow::Result<ExitCode> {
    let explained = block_on(explain_command::run(settings, &mut io::stdout()))?;
    Ok(ExitCode::from(status(explained, ExplainError::exit_status)))
}

fn watch(settings: &Watch) -> anyhow::Result<ExitCode> {
    let can_redraw = explain_command::watch::can_redraw();
    let shown = block_on(explain_command::watch::run(
        settings,
        can_redraw,
        &mut io::stdout(),
    ))?;
    Ok(ExitCode::from(status(shown, ExplainError::exit_status)))
}

fn doctor(settings: &Doctor) -> anyhow::Result<ExitCode> {
    let found = block_on(doctor_command::run(settings, &mut io::stdout()))?;
    Ok(ExitCode::from(status(found, DoctorError::exit_status)))
}

fn release(settings: &Release) -> anyhow::Result<ExitCode> {
    let released = block_on(release_command::run(settings, &mut io::stdout()))?;
    let status = status(released, ReleaseError::exit_status);
    if settings.best_effort && status != 0 {
        eprintln!("targetgate: --best-effort: the exit status is 0 instead of {status}");
        return Ok(ExitCode::SUCCESS);
    }
    Ok(ExitCode::from(status))
}

/// The exit status of a command, whose error is told.
fn status<E: Display>(ended: Result<u8, E>, of_error: impl Fn(&E) -> u8) -> u8 {
    ended.unwrap_or_else(|error| {
        eprintln!("targetgate: {error}");
        of_error(&error)
    })
}

/// Runs a command to its end, and leaves behind what it has not waited for.
fn block_on<T>(command: impl Future<Output = T>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let done = runtime.block_on(command);
    // A blocked task must not delay the end.
    runtime.shutdown_background();
    Ok(done)
}

fn make_dev_certs(wanted: &DevCerts) -> anyhow::Result<ExitCode> {
    let paths = certs::write(wanted, Timestamp::now())?;
    let lines = paths.map(|path| format!("{}\n", path.display()));
    print(&lines.concat())
}

/// Prints to standard output without a panic when its reader has closed the pipe, unlike `println!`.
fn print(text: &str) -> anyhow::Result<ExitCode> {
    let written = io::stdout().write_all(text.as_bytes());
    written.context("cannot write to standard output")?;
    Ok(ExitCode::SUCCESS)
}
