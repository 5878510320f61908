"""One inspection of photographs before they are used."""
