//! What functions and operators compute, on columns and single samples, free of planning and storage.
