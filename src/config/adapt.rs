//! Defaults that follow the images: what the presets for 32×32 pixels set from the number of
//! images and from what they look like. A key that the user sets is never touched, and every
//! value that differs from the preset's is said with its reason.
