//! What is believed of a dump and what is not.
