//! I3: replay or reorder changes nothing. A message that a core has just handled is given to a copy of it again
//! (`crate::replay`); the network repeats and reorders besides.
