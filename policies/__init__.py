"""policies: what the owners agreed on. Pure: text in, a frozen policy or a named mistake out."""
