//! Exemplars of the live head: upstream's circular buffer.
