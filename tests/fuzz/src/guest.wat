;; A handler that believes its caller: seven words of its input are arguments of host calls and what its allocator gives.
(component
    (type $types (instance
        (type (enum "cancelled" "unknown" "invalid-argument" "deadline-exceeded" "not-found" "already-exists"
            "permission-denied" "resource-exhausted" "failed-precondition" "aborted" "out-of-range" "unimplemented"
            "internal" "unavailable" "data-loss" "unauthenticated"))
        (export "code" (type (eq 0)))
        (type (list u8))
        (type (record (field "code" 1) (field "message" string) (field "details" 2)))
        (export "fault" (type (eq 3)))))
    (import "collector:plugin/types@0.1.0" (instance $types (type $types)))
    (alias export $types "fault" (type $fault))
    (import "collector:plugin/log@0.1.0" (instance $log
        (type (enum "trace" "debug" "info" "warn" "error" "critical"))
        (export "level" (type (eq 0)))
        (export "write" (func (param "level" 1) (param "target" string) (param "message" string)))))
    (import "collector:plugin/context@0.1.0" (instance $context
        (type (list u8))
        (type (record (field "key" string) (field "value" 0)))
        (export "entry" (type (eq 1)))
        (type (list 2))
        (export "metadata" (func (result 3)))))
    (core module $room
        (memory (export "memory") 1)
        (global (export "next") (mut i32) (i32.const 4096))
        (func (export "realloc") (param i32 i32 i32 i32) (result i32) global.get 0))
    (core instance $room (instantiate $room))
    (alias core export $room "memory" (core memory $memory))
    (alias core export $room "realloc" (core func $realloc))
    (core func $write (canon lower (func $log "write") (memory $memory)))
    (core func $metadata (canon lower (func $context "metadata") (memory $memory) (realloc $realloc)))
    (core module $m
        (import "room" "memory" (memory 1))
        (import "room" "next" (global $next (mut i32)))
        (import "host" "write" (func $write (param i32 i32 i32 i32 i32)))
        (import "host" "metadata" (func $metadata (param i32)))
        (func $word (param $at i32) (param $number i32) (result i32)
            (i32.load (i32.add (local.get $at) (i32.mul (local.get $number) (i32.const 4)))))
        (func (export "handle") (param i32 i32) (param $at i32) (param $len i32) (result i32)
            (local $result i32)
            (if (i32.ge_u (local.get $len) (i32.const 28)) (then
                (local.set $result (call $word (local.get $at) (i32.const 5)))
                (call $write
                    (call $word (local.get $at) (i32.const 0)) (call $word (local.get $at) (i32.const 1))
                    (call $word (local.get $at) (i32.const 2)) (call $word (local.get $at) (i32.const 3))
                    (call $word (local.get $at) (i32.const 4)))
                (global.set $next (call $word (local.get $at) (i32.const 6)))
                (call $metadata (local.get $result))
                (return (local.get $result))))
            (i32.store8 (i32.const 1024) (i32.const 0))
            (i32.store (i32.const 1028) (local.get $at))
            (i32.store (i32.const 1032) (local.get $len))
            i32.const 1024))
    (core instance $m (instantiate $m
        (with "room" (instance $room))
        (with "host" (instance (export "write" (func $write)) (export "metadata" (func $metadata))))))
    (type $bytes (list u8))
    (type $handle (func (param "method" string) (param "input" $bytes) (result (result $bytes (error $fault)))))
    (func $handle (type $handle)
        (canon lift (core func $m "handle") (memory $memory) (realloc $realloc)))
    (instance $handler (export "handle" (func $handle)))
    (export "collector:plugin/handler@0.1.0" (instance $handler)))
