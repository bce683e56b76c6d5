//! The stable names of the rules a diagnostic can be about. A name, once released, keeps its meaning.

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $variant:ident = $text:literal,)+) => {
        /// Which rule was broken.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Code] = &[$(Code::$variant),+];

            /// The stable text, as shown and as used in JSON.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Code::$variant => $text,)+
                }
            }
        }
    };
}

codes! {
    // files and YAML
    /// The file is not UTF-8.
    NotUtf8 = "not-utf8",
    /// The file is larger than [`crate::yaml::FILE_BYTES_MAX`].
    FileTooLarge = "file-too-large",
    /// A character that YAML does not allow.
    ForbiddenCharacter = "forbidden-character",
    /// The text is not YAML.
    YamlSyntax = "yaml-syntax",
    /// An anchor, an alias, a tag, a second document or a key that is not text.
    YamlUnsupported = "yaml-unsupported",
    /// Nested deeper than [`crate::yaml::DEPTH_MAX`] or with more nodes than [`crate::yaml::NODES_MAX`].
    YamlTooComplex = "yaml-too-complex",
    /// The same key twice in one mapping.
    DuplicateKey = "duplicate-key",
    /// A number JSON cannot hold, or text that only looks like a number.
    BadNumber = "bad-number",

    // shapes
    /// A key that is not known here.
    UnknownKey = "unknown-key",
    /// A key that must be there is not.
    MissingKey = "missing-key",
    /// A list where text was expected, and the like.
    WrongKind = "wrong-kind",
    /// Of the right kind, with a value that is not allowed.
    BadValue = "bad-value",
    /// A name that breaks the rule for names.
    BadName = "bad-name",
    /// A text that is not a duration.
    BadDuration = "bad-duration",
    /// A secret's value in a file, where only a reference may stand.
    SecretValue = "secret-value",
}

impl Code {
    /// The source under such a diagnostic must not be shown: it may be a secret.
    pub fn hides_source(self) -> bool {
        self == Code::SecretValue
    }
}
