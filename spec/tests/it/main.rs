//! Comparison with an independent implementation of the same rules.

mod events_second_opinion;
