"""The HTTP interface of the internal map: reads aggregates and registry, changes nothing."""
