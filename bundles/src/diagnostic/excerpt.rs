//! Text of others, made safe to show: short, and with nothing that moves a terminal's cursor.

/// How many characters of a value a message may quote.
pub const EXCERPT_CHARS_MAX: usize = 60;

/// The text's first [`EXCERPT_CHARS_MAX`] characters with control characters escaped; `…` where it was cut.
pub fn excerpt(text: &str) -> String {
    let mut shown: String = text.chars().take(EXCERPT_CHARS_MAX).map(visible).collect();
    if text.chars().nth(EXCERPT_CHARS_MAX).is_some() {
        shown.push('…');
    }
    shown
}

/// The same text with every character that is not meant to be seen written as one that is.
pub fn escape(text: &str) -> String {
    text.chars().map(visible).collect()
}

/// One character that shows another one, so that columns stay where they are.
pub(super) fn visible(c: char) -> char {
    const PICTURES: u32 = 0x2400;
    match c {
        '\u{0}'..='\u{1f}' => char::from_u32(PICTURES + c as u32).unwrap_or('\u{fffd}'),
        '\u{7f}' => '\u{2421}',
        // C1 controls; marks that reorder or hide text (bidi, zero width, separators, byte order mark, tags)
        '\u{80}'..='\u{9f}'
        | '\u{ad}'
        | '\u{61c}'
        | '\u{180e}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}' => '\u{fffd}',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_value_is_cut_and_says_so() {
        let shown = excerpt(&"я".repeat(1 << 20));
        assert_eq!(shown, format!("{}…", "я".repeat(EXCERPT_CHARS_MAX)));
        assert_eq!(excerpt(&"я".repeat(EXCERPT_CHARS_MAX)), "я".repeat(EXCERPT_CHARS_MAX));
    }

    #[test]
    fn nothing_shown_can_move_a_cursor_or_turn_text_around() {
        assert_eq!(excerpt("a\u{1b}[2Jb\r\n\tc"), "a␛[2Jb␍␊␉c");
        assert_eq!(escape("\u{202e}x\u{200b}\u{9b}\u{7f}"), "\u{fffd}x\u{fffd}\u{fffd}␡");
    }
}
