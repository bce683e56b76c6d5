//! The YAML crate's words for what it could not read, in words for people.

use crate::words::Words;

/// A part of what the crate says, what it means, and what usually helps.
struct Explanation {
    said: &'static str,
    en: &'static str,
    ru: &'static str,
    hint_en: &'static str,
    hint_ru: &'static str,
}

const EXPLANATIONS: &[Explanation] = &[
    Explanation {
        said: "mapping values are not allowed",
        en: "a `:` that is not allowed here",
        ru: "двоеточию здесь не место",
        hint_en: "put a value that holds `: ` in quotes; check the indentation",
        hint_ru: "возьмите значение с `: ` в кавычки; проверьте отступ",
    },
    Explanation {
        said: "simple key expect",
        en: "this line is not `key: value`",
        ru: "в строке нет `ключ: значение`",
        hint_en: "a key ends with `:` and a space",
        hint_ru: "после ключа ставятся `:` и пробел",
    },
    Explanation {
        said: "tab",
        en: "a tab where only spaces may stand",
        ru: "табуляция там, где могут быть только пробелы",
        hint_en: "indent with spaces",
        hint_ru: "делайте отступы пробелами",
    },
    Explanation {
        said: "quoted scalar, found unexpected end of stream",
        en: "a quote is not closed",
        ru: "кавычка не закрыта",
        hint_en: "add the closing quote",
        hint_ru: "добавьте закрывающую кавычку",
    },
    Explanation {
        said: "unknown escape character",
        en: "an unknown escape in double quotes",
        ru: "неизвестная последовательность с `\\` в двойных кавычках",
        hint_en: "use single quotes to keep `\\` as it is",
        hint_ru: "в одинарных кавычках `\\` остаётся как есть",
    },
    Explanation {
        said: "trailing content after double-quoted",
        en: "text after a closing quote",
        ru: "текст после закрывающей кавычки",
        hint_en: "put the whole value in single quotes",
        hint_ru: "возьмите всё значение в одинарные кавычки",
    },
    Explanation {
        said: "flow mapping, did not find expected",
        en: "a `{` mapping is not continued with `,` or closed with `}`",
        ru: "после значения в `{…}` нет `,` или `}`",
        hint_en: "put a value with `{{ … }}`, `,` or `: ` in quotes",
        hint_ru: "возьмите значение с `{{ … }}`, `,` или `: ` в кавычки",
    },
    Explanation {
        said: "flow sequence, expected",
        en: "a `[` list is not continued with `,` or closed with `]`",
        ru: "после значения в `[…]` нет `,` или `]`",
        hint_en: "put a value with `,` or `: ` in quotes",
        hint_ru: "возьмите значение с `,` или `: ` в кавычки",
    },
    Explanation {
        said: "illegal placement of ':'",
        en: "a `:` that is not allowed here",
        ru: "двоеточию здесь не место",
        hint_en: "is a `[` or `{` above closed?",
        hint_ru: "закрыта ли `[` или `{` выше?",
    },
    Explanation {
        said: "recursion limit",
        en: "lists and mappings are nested too deep",
        ru: "слишком глубокая вложенность",
        hint_en: "a file rarely needs more than ten levels",
        hint_ru: "файлу редко нужно больше десяти уровней",
    },
    Explanation {
        said: "block mapping, did not find expected key",
        en: "a key was expected here",
        ru: "здесь ожидался ключ",
        hint_en: "check the indentation and the quotes above",
        hint_ru: "проверьте отступы и кавычки выше",
    },
    Explanation {
        said: "indent",
        en: "the indentation does not fit",
        ru: "отступ не подходит",
        hint_en: "keys of one mapping start in one column",
        hint_ru: "ключи одного уровня начинаются в одной колонке",
    },
    Explanation {
        said: "unknown anchor",
        en: "an alias (`*name`) is not used here",
        ru: "ссылка на якорь (`*имя`) здесь не используется",
        hint_en: "write the value out in full, or put text that starts with `*` in quotes",
        hint_ru: "запишите значение полностью или возьмите текст с `*` в начале в кавычки",
    },
];

/// What is wrong, and a hint where one is known.
pub(super) fn explain(said: &str) -> (Words, Option<Words>) {
    match EXPLANATIONS.iter().find(|explanation| said.contains(explanation.said)) {
        Some(found) => (Words::new(found.en, found.ru), Some(Words::new(found.hint_en, found.hint_ru))),
        None => (Words::new(format!("this is not YAML: {said}"), format!("это не YAML: {said}")), None),
    }
}
