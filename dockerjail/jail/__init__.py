"""
Chunks in, failures and offences out. Pure: no clock, no I/O, no await.

sieve (which lines could match) > filter (does one, and whose address) > window
(how often within findtime) > offence. May not touch asyncio, time, sockets or
any I/O library; time comes in as the Engine's stamp of each line.
"""
