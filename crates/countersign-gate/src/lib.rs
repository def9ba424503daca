//! Policy set, intent and approvals in, one of three outcomes out.
