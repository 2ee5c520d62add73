"""The Adroit hand: a pen to turn, a door, a hammer and a nail, a ball to carry."""
