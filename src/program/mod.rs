//! What the binaries have in common: parsing, logs, exit codes, and what happens to a panic.

pub mod args;
pub mod device;
pub mod output;

use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::process::ExitCode;

use clap::builder::styling::{AnsiColor, Style};
use clap::{Command, FromArgMatches};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, MakeWriter};
use tracing_subscriber::registry::LookupSpan;

pub use device::{DeviceArgs, open_device};
pub use output::{print, print_json};

use crate::device::allocator;
use crate::error::{Error, Kind, Result, panic_text};
use crate::outside::{HarmlessWriter, harmless};
use crate::signals::{self, Signals};
use output::{PROSE, columns, facts, fill, wrap};

/// The place in `--help` of verbs that the short summary leaves out.
pub const LAST: usize = 900;

/// How clap writes `error:`, too.
const ERROR: Style = AnsiColor::Red.on_default().bold();
const WARNING: Style = AnsiColor::Yellow.on_default().bold();

/// Parses the command line, runs the program and turns what came of it into an exit code;
/// errors are written to stderr as `error: …`. Without any word on the command line it says in
/// short what the program is; `begin` is the last line of that.
pub fn run<P: FromArgMatches>(
    mut command: Command,
    begin: &str,
    program: impl FnOnce(P) -> Result<u8>,
) -> ExitCode {
    panic::set_hook(Box::new(report_panic));
    command.get_version().into_iter().for_each(crate::version::set);
    allocator::share_arenas_where_limited();
    if let Err(e) = listen_early() {
        complain(&e);
        return ExitCode::from(e.exit_code());
    }
    if std::env::args_os().len() < 2 {
        write_stderr(&summary(&mut command, begin));
        return ExitCode::from(Kind::Usage.exit_code());
    }
    let parsed = match command.try_get_matches().and_then(|mut m| P::from_arg_matches_mut(&mut m)) {
        Ok(parsed) => parsed,
        Err(e) => return ExitCode::from(not_parsed(&e)),
    };
    match panic::catch_unwind(AssertUnwindSafe(|| program(parsed))) {
        Ok(Ok(code)) => ExitCode::from(code),
        Ok(Err(e)) => {
            match e.kind() {
                // Stopping when asked to is no fault.
                Kind::Stopped | Kind::Interrupted => write_stderr(&format!("{e}\n")),
                _ => complain(&e),
            }
            ExitCode::from(e.exit_code())
        }
        // The hook has said what happened.
        Err(_) => ExitCode::from(Kind::Device.exit_code()),
    }
}

/// Prints what clap has to say of a command line, help for one; gives the exit code.
pub fn not_parsed(e: &clap::Error) -> u8 {
    if e.use_stderr() {
        // Clap breaks the lines of its help, but not those of its errors.
        write_stderr(&e.render().ansi().to_string());
        return Kind::Usage.exit_code();
    }
    // It is no error if the reader of the help has gone.
    let _ = e.print();
    0
}

/// What the program is, its verbs in a line each, and how to begin.
fn summary(command: &mut Command, begin: &str) -> String {
    command.build();
    let text =
        |text: Option<&clap::builder::StyledStr>| text.map_or(String::new(), |t| t.to_string());
    let verbs: Vec<(String, String)> = command
        .get_subcommands()
        .filter(|verb| !verb.is_hide_set() && verb.get_display_order() < LAST)
        .map(|verb| (format!("  {}", verb.get_name()), text(verb.get_about())))
        .collect();
    let name = command.get_name().to_owned();
    let columns = columns(std::io::stderr()).unwrap_or(PROSE).min(PROSE);
    format!(
        "{}\n\nUsage: {name} VERB [OPTIONS]\n\n{}\n{begin}\n",
        fill(&format!("{}.", text(command.get_about())), columns, "", ""),
        facts(&verbs),
    )
}

/// Verbs that handle signals, because they have something to keep.
const HANDLING: [&str; 5] = ["train", "search", "finetune", "quickstart", "study"];

/// Listens for signals before anything else is done, where the command line may be one of the
/// verbs that handle them; which one it is shows only later ([`heed_no_more`]).
///
/// [`heed_no_more`]: signals::heed_no_more
fn listen_early() -> Result<()> {
    signals::let_large_files_fail()?;
    if std::env::args_os().skip(1).any(|word| HANDLING.iter().any(|verb| word == *verb)) {
        Signals::listen()?;
    }
    Ok(())
}

/// Writes `error: …` to stderr.
fn complain(e: &dyn Display) {
    write_stderr(&format!("{ERROR}error:{ERROR:#} {e}\n"));
}

/// Writes to stderr: with colours on a terminal unless `NO_COLOR` is set, and with lines broken
/// between words where the terminal is narrower. What nobody can read is no error.
fn write_stderr(text: &str) {
    let mut stderr = std::io::stderr().lock();
    if stderr.is_terminal() {
        // A progress bar may stand there, and draws itself again below.
        let _ = stderr.write_all(b"\r\x1b[2K");
    }
    let text = match columns(&stderr) {
        Some(columns) => wrap(text, columns.min(PROSE)),
        None => text.to_owned(),
    };
    let _ = anstream::AutoStream::auto(stderr).write_all(text.as_bytes());
}

/// One line for a fault in the program itself, wherever it happened.
fn report_panic(info: &PanicHookInfo) {
    if crate::data::decodes() {
        // It is caught, and the image counts as one that cannot be read.
        return;
    }
    let text = panic_text(info.payload());
    // The standard library gives up on threads that get no memory for their own stack.
    if text.contains("alternative stack") {
        allocator::end(0);
    }
    let at = info.location().map_or(String::new(), |l| format!(" at {}:{}", l.file(), l.line()));
    complain(&format!(
        "a fault in engine itself{at}: {}; nothing you did should cause this: please report this \
         line with the command that you ran",
        harmless(text)
    ));
}

/// Sends the log to stderr, a line an event; only warnings where `quiet`. The variable
/// `ENGINE_LOG` overrides both: `warn`, `info` or `debug`.
///
/// # Errors
/// [`Kind::Usage`] for another value of the variable.
pub fn log_to_stderr(quiet: bool) -> Result<()> {
    let level = match std::env::var_os("ENGINE_LOG").filter(|value| !value.is_empty()) {
        None if quiet => Level::WARN,
        None => Level::INFO,
        Some(value) => match value.to_str() {
            Some("warn") => Level::WARN,
            Some("info") => Level::INFO,
            Some("debug") => Level::DEBUG,
            _ => {
                return Err(Error::usage(format!(
                    "environment variable ENGINE_LOG is {value:?}: expected warn, info or debug"
                )));
            }
        },
    };
    let log = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(Stderr)
        .event_format(Line)
        .finish();
    // A log that is already there (a verb run by another one) stays.
    let _ = tracing::subscriber::set_global_default(log);
    Ok(())
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
            Level::ERROR => write!(out, "{ERROR}error:{ERROR:#} ")?,
            Level::WARN => write!(out, "{WARNING}warning:{WARNING:#} ")?,
            Level::INFO => {}
            _ => out.write_str("debug: ")?,
        }
        ctx.field_format().format_fields(Writer::new(&mut HarmlessWriter(out.by_ref())), event)?;
        out.write_char('\n')
    }
}

/// Stderr as [`write_stderr`] writes to it.
struct Stderr;

impl Write for Stderr {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        write_stderr(&String::from_utf8_lossy(text));
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
