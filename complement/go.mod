module conduit/complement

go 1.25.0
