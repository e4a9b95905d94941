"""Files of users as sorted pieces of segments: readers, conversion, the process that does it."""
