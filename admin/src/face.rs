//! Faces: the admin room, and HTTP in a form of its own. The command line's is the program's.

pub(crate) mod api;
pub(crate) mod room;
