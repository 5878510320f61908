"""From scores to claims: means with intervals, paired differences, comparability and the gate."""
