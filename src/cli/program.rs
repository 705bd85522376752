//! What the binaries have in common: parsing, logs, exit codes, and what happens to a panic.

use std::io::{IsTerminal, Write};
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::process::ExitCode;

use clap::Parser;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, MakeWriter};
use tracing_subscriber::registry::LookupSpan;

use crate::device::allocator;
use crate::error::{Kind, Result};
use crate::outside::HarmlessWriter;
use crate::signals::{self, Signals};

/// Parses the command line, runs the program and turns what came of it into an exit code;
/// errors are written to stderr as `error: …`.
pub fn run<P: Parser>(program: impl FnOnce(P) -> Result<u8>) -> ExitCode {
    panic::set_hook(Box::new(report_panic));
    allocator::share_arenas_where_limited();
    if let Err(e) = listen_early() {
        let _ = writeln!(std::io::stderr(), "error: {e}");
        return ExitCode::from(e.exit_code());
    }
    let parsed = match P::try_parse() {
        Ok(parsed) => parsed,
        Err(e) => {
            // Help that nobody reads any more is no failure.
            let _ = e.print();
            return ExitCode::from(if e.use_stderr() { Kind::Usage.exit_code() } else { 0 });
        }
    };
    match panic::catch_unwind(AssertUnwindSafe(|| program(parsed))) {
        Ok(Ok(code)) => ExitCode::from(code),
        Ok(Err(e)) => {
            // Stopping when asked to is no fault.
            let stopped = matches!(e.kind(), Kind::Stopped | Kind::Interrupted);
            let prefix = if stopped { "" } else { "error: " };
            let _ = writeln!(std::io::stderr(), "{prefix}{e}");
            ExitCode::from(e.exit_code())
        }
        // The hook has said what happened.
        Err(_) => ExitCode::from(Kind::Device.exit_code()),
    }
}

/// Verbs that heed signals, as they have something to keep.
const HEEDING: [&str; 3] = ["train", "search", "quickstart"];

/// Listens for signals before anything else is done, where the command line may be one of the
/// verbs that heed them; which one it is shows only later ([`heed_no_more`]).
///
/// [`heed_no_more`]: signals::heed_no_more
fn listen_early() -> Result<()> {
    signals::let_large_files_fail()?;
    if std::env::args_os().skip(1).any(|word| HEEDING.iter().any(|verb| word == *verb)) {
        Signals::listen()?;
    }
    Ok(())
}

/// One line for a fault in the program itself, wherever it happened.
fn report_panic(info: &PanicHookInfo) {
    if crate::data::decodes() {
        // It is caught, and the image counts as one that cannot be read.
        return;
    }
    let payload = info.payload();
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    // The standard library gives up on threads that get no memory for their own stack.
    if text.contains("alternative stack") {
        allocator::end(0);
    }
    let at = info.location().map_or(String::new(), |l| format!(" at {}:{}", l.file(), l.line()));
    let _ = writeln!(
        std::io::stderr(),
        "error: a fault in engine itself{at}: {text}; nothing you did should cause this: please \
         report this line with the command that you ran"
    );
}

/// Sends the log to stderr, a line an event; only warnings where `quiet`. The variable
/// `ENGINE_LOG=debug` shows more.
pub fn log_to_stderr(quiet: bool) {
    let debug = std::env::var("ENGINE_LOG").is_ok_and(|v| v == "debug");
    let level = match (quiet, debug) {
        (_, true) => Level::DEBUG,
        (true, false) => Level::WARN,
        (false, false) => Level::INFO,
    };
    let log = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(Stderr)
        .event_format(Line)
        .finish();
    // A log that is already there (a verb run by another one) stays.
    let _ = tracing::subscriber::set_global_default(log);
}

/// An event as `message`, with the level in front where it is not a plain message.
struct Line;

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        match *event.metadata().level() {
            Level::ERROR => out.write_str("error: ")?,
            Level::WARN => out.write_str("warning: ")?,
            Level::INFO => {}
            _ => out.write_str("debug: ")?,
        }
        ctx.field_format().format_fields(Writer::new(&mut HarmlessWriter(out.by_ref())), event)?;
        out.write_char('\n')
    }
}

/// Stderr, clearing the line first on a terminal: a progress bar may stand there, and draws
/// itself anew below. A log that nobody can read is no failure.
struct Stderr;

impl Write for Stderr {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        let mut stderr = std::io::stderr().lock();
        if stderr.is_terminal() {
            let _ = stderr.write_all(b"\r\x1b[2K");
        }
        let _ = stderr.write_all(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Stderr {
    type Writer = Self;
    fn make_writer(&self) -> Self {
        Stderr
    }
}
