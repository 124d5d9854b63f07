//! Fed with objects, asked for what they leave.
