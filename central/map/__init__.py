"""The thermal map: cells, layers and the blocks of a day that the page draws."""
