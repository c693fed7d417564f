package main

// What tests outside of the package need.
var RealMain = realMain

const FaultsShown = faultsShown
