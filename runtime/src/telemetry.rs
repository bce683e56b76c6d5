//! Log lines: JSON by default, with every control character escaped whatever a vendor sent.

use std::io::{self, Write};

use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

use crate::config::LogFormat;

/// Sends this process's log lines to standard error. The first call wins; later ones change nothing.
///
/// # Errors
/// The filter cannot be read.
pub fn start(format: LogFormat, filter: &str) -> Result<(), tracing_subscriber::filter::ParseError> {
    let filter = EnvFilter::builder().parse(filter)?;
    let lines =
        tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(Escaping(io::stderr));
    // An error means that somebody set a subscriber before, which then stays.
    let _ = match format {
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).try_init(),
        LogFormat::Text => lines.with_target(false).try_init(),
    };
    Ok(())
}

/// Makes writers that escape control characters; one line a write is what the formatter gives.
struct Escaping<M>(M);

impl<'a, M: MakeWriter<'a>> MakeWriter<'a> for Escaping<M> {
    type Writer = EscapingWriter<M::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        EscapingWriter(self.0.make_writer())
    }
}

struct EscapingWriter<W>(W);

impl<W: Write> Write for EscapingWriter<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.write_all(&escaped(line))?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// The line with C0, DEL and C1 controls as `\u00XX`; only the line end that closes it stays.
fn escaped(line: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    let text = line.strip_suffix(b"\n").unwrap_or(line);
    if !text.iter().any(|byte| byte.is_ascii_control() || *byte == 0xc2) {
        return line.into();
    }
    let mut safe = Vec::with_capacity(line.len() + 16);
    for letter in String::from_utf8_lossy(text).chars() {
        if letter.is_control() {
            safe.extend_from_slice(format!("\\u{:04x}", u32::from(letter)).as_bytes());
        } else {
            safe.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
    safe.extend_from_slice(&line[text.len()..]);
    safe.into()
}

#[cfg(test)]
pub(crate) mod testing {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What `log` logs, as text or as JSON lines.
    pub fn logged(json: bool, log: impl FnOnce()) -> String {
        let memory = Memory::default();
        let writer = memory.clone();
        let lines = tracing_subscriber::fmt().with_ansi(false).with_writer(Escaping(move || writer.clone()));
        if json {
            tracing::subscriber::with_default(lines.json().flatten_event(true).finish(), log);
        } else {
            tracing::subscriber::with_default(lines.finish(), log);
        }
        let bytes = memory.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::testing::logged;

    #[test]
    fn no_control_character_of_a_logged_value_reaches_the_terminal() {
        for json in [true, false] {
            let text = logged(json, || tracing::info!(value = "a\x1b[31m\r\nb\u{9b}2J\x7f\0c", "сообщение"));
            let line = text.strip_suffix('\n').unwrap();
            assert!(!line.contains(char::is_control), "{line:?}");
            assert!(line.contains("сообщение"), "{line:?}");
        }
    }

    #[test]
    fn a_json_line_stays_json() {
        let text = logged(true, || tracing::info!(value = "\x1b\u{9b}\x7f", "x"));
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["value"], "\x1b\u{9b}\x7f");
    }
}
