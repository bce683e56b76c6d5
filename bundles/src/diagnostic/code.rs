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

    // references, helpers, templates, filters, mappings
    /// A name that nothing has here.
    UnknownField = "unknown-field",
    /// A field that this trigger never has.
    UnavailableField = "unavailable-field",
    /// A helper that does not exist.
    UnknownHelper = "unknown-helper",
    /// A helper with the wrong arguments.
    HelperArguments = "helper-arguments",
    /// A template that cannot be read.
    BadTemplate = "bad-template",
    /// A JSONPath query that cannot be read.
    BadQuery = "bad-query",
    /// A filter that cannot be read.
    BadFilter = "bad-filter",
    /// A regular expression that cannot be read, or is too large.
    BadPattern = "bad-pattern",
    /// A comparison with a word that means "no value".
    NoValueWord = "no-value-word",
    /// A value of the wrong type for its place.
    WrongType = "wrong-type",
    /// A local time where UTC is meant.
    LocalTimeAsUtc = "local-time-as-utc",
    /// A value that can be empty where there must be one.
    CanBeEmpty = "can-be-empty",
    /// A target that cannot be read.
    BadTarget = "bad-target",
    /// Two targets that cannot both hold.
    TargetClash = "target-clash",
    /// A target that does not exist.
    UnknownTarget = "unknown-target",
    /// A required target without a value.
    MissingTarget = "missing-target",
    /// A secret where it would become text.
    SecretPlace = "secret-place",

    // connectors, connections, bundles
    /// A file that is no workspace, connection or bundle.
    UnknownKind = "unknown-kind",
    /// No `sheaf.yaml`, or more than one.
    BadWorkspace = "bad-workspace",
    /// Two things of one kind with the same name.
    DuplicateName = "duplicate-name",
    /// A connector that does not exist.
    UnknownConnector = "unknown-connector",
    /// A connection that does not exist, or has errors of its own.
    UnknownConnection = "unknown-connection",
    /// An action the connector does not have, or a connection of another connector.
    UnknownAction = "unknown-action",
    /// A trigger the connector does not have.
    UnknownTrigger = "unknown-trigger",
    /// A secret the connection does not have.
    UnknownSecret = "unknown-secret",
    /// A secret on its way to a host that may not have it.
    SecretHost = "secret-host",
    /// A URL that cannot be sent to, or whose origin is not constant.
    BadUrl = "bad-url",
    /// A hook takes a method that carries its parameters in the query, and does not read the query.
    QueryNotRead = "query-not-read",
    /// A hook's signature covers the body alone, and the query is read too.
    UnsignedQuery = "unsigned-query",
    /// A header name or value that HTTP does not allow.
    BadHeader = "bad-header",
}

impl Code {
    /// The source under such a diagnostic must not be shown: it may be a secret.
    pub fn hides_source(self) -> bool {
        self == Code::SecretValue
    }
}
