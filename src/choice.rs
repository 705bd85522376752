//! Settings and flags that are one word of a few.

/// Declares an enum whose values are words: with `NAMES`, `ABOUT`, `as_str()`, parsing whose error
/// names the nearest word, display, serde, and clap's [`ValueEnum`](clap::ValueEnum), so that a flag
/// of this type lists its words by itself.
#[macro_export]
macro_rules! choice {
    (
        $(#[$meta:meta])*
        pub enum $Type:ident ($what:literal) {
            $(
                $(#[doc = $about:literal])*
                $(#[default $($never:ident)?])?
                $Variant:ident = $name:literal,
            )+
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(into = "&'static str", try_from = "String")]
        pub enum $Type { $($(#[doc = $about])* $(#[default $($never)?])? $Variant,)+ }

        impl $Type {
            /// The words for the values, in order.
            pub const NAMES: &[&str] = &[$($name),+];
            /// What each of them means, in the same order.
            pub const ABOUT: &[&str] = &[$(concat!($($about),*)),+];
            /// The word for this value.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$Variant => $name,)+ }
            }
        }
        impl clap::ValueEnum for $Type {
            fn value_variants<'a>() -> &'a [Self] {
                &[$(Self::$Variant),+]
            }
            fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
                Some(clap::builder::PossibleValue::new(self.as_str()))
            }
        }
        impl std::str::FromStr for $Type {
            type Err = $crate::Error;
            fn from_str(s: &str) -> $crate::Result<Self> {
                match s {
                    $($name => Ok(Self::$Variant),)+
                    _ => Err($crate::Error::usage(format!(
                        concat!("unknown ", $what, " {:?}{}: expected {}"),
                        s,
                        $crate::error::nearest(s, Self::NAMES),
                        Self::NAMES.join(" or ")
                    ))),
                }
            }
        }
        impl std::fmt::Display for $Type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
        impl From<$Type> for &'static str {
            fn from(value: $Type) -> Self {
                value.as_str()
            }
        }
        impl TryFrom<String> for $Type {
            type Error = $crate::Error;
            fn try_from(s: String) -> $crate::Result<Self> {
                s.parse()
            }
        }
    };
}
