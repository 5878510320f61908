"""What methods cost: each phase measured in a process of its own, extrapolated where the budget ends, amortised.

`measuring` runs the phases that are missing, `worker` is the process of one of them, `records` says what it leaves,
`results` makes figures of it and `amortisation` what they amount to. docs/cost.md explains the measures.
"""
