//! What is asked of duolb, by the numbers that gates have. The figures stand where the gates are made.

/// Number and goal, in their order.
pub const GOALS: [(&str, &str); 11] = [
    ("G1", "an established packet, in lookups"),
    ("G2", "a new connection, in lookups and inserts"),
    ("G3", "throughput to a cluster IP, and small packets"),
    ("G4", "connections and requests"),
    ("G5", "XDP from outside to another node"),
    ("G6", "from 1 service to 100,000"),
    ("G7", "the first sync"),
    ("G8", "an incremental change"),
    ("G9", "memory of the agent"),
    ("G10", "what the programs ask of the kernel"),
    ("G11", "traffic that is none of ours"),
];
