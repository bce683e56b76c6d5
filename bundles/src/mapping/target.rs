//! A dotted target: `customer.mobilePhone`, `items[0].sku`, `a\.b` for a key with a dot in it.

use super::{TARGET_DEPTH_MAX, TARGET_ITEMS_MAX};
use crate::words::Words;

/// One step into the result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Into an object.
    Key(String),
    /// Into a list.
    Index(usize),
}

/// Reads a target; the error says what is wrong with it.
pub fn parse(text: &str) -> Result<Vec<Step>, Words> {
    let mut steps = Vec::new();
    let mut key = String::new();
    let mut characters = text.chars().peekable();
    let mut key_expected = true;
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some(escaped @ ('.' | '[' | ']' | '\\')) => key.push(escaped),
                Some(_) | None => {
                    return Err(Words::new(
                        "a backslash stands before `.`, `[`, `]` or another backslash only",
                        "обратная черта ставится только перед `.`, `[`, `]` или другой обратной чертой",
                    ));
                }
            },
            '.' => {
                end_key(&mut key, &mut steps, key_expected)?;
                key_expected = true;
            }
            '[' => {
                end_key(&mut key, &mut steps, key_expected)?;
                key_expected = false;
                let digits: String = std::iter::from_fn(|| characters.next_if(|next| *next != ']')).collect();
                if characters.next() != Some(']') {
                    return Err(Words::new("`[` is never closed", "скобка `[` не закрыта"));
                }
                steps.push(Step::Index(index(&digits)?));
            }
            _ if !key_expected => {
                return Err(Words::new("a dot is expected after `]`", "после `]` ожидается точка"));
            }
            _ => key.push(character),
        }
    }
    end_key(&mut key, &mut steps, key_expected)?;
    if steps.len() > TARGET_DEPTH_MAX {
        return Err(Words::new("the target is nested too deep", "слишком глубокая вложенность"));
    }
    Ok(steps)
}

fn end_key(key: &mut String, steps: &mut Vec<Step>, expected: bool) -> Result<(), Words> {
    match (key.is_empty(), expected) {
        (true, true) => Err(Words::new("a name is missing between the dots", "между точками нет имени")),
        (true, false) => Ok(()),
        (false, _) => {
            steps.push(Step::Key(std::mem::take(key)));
            Ok(())
        }
    }
}

fn index(digits: &str) -> Result<usize, Words> {
    let plain = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    digits.parse().ok().filter(|index| plain && *index < TARGET_ITEMS_MAX).ok_or_else(|| {
        Words::new(
            format!("an index is a number from 0 to {}", TARGET_ITEMS_MAX - 1),
            format!("номер — число от 0 до {}", TARGET_ITEMS_MAX - 1),
        )
    })
}

/// The steps as they are written.
pub fn shown(steps: &[Step]) -> String {
    let mut text = String::new();
    for step in steps {
        match step {
            Step::Key(key) => {
                if !text.is_empty() {
                    text.push('.');
                }
                for character in key.chars() {
                    if matches!(character, '.' | '[' | ']' | '\\') {
                        text.push('\\');
                    }
                    text.push(character);
                }
            }
            Step::Index(index) => text.push_str(&format!("[{index}]")),
        }
    }
    text
}
