;; Four neighbouring input pixels through a transposed convolution with a 4x4 kernel, stride 2 and padding 1, for one
;; output channel: 2 rows of 8 output pixels. `python scripts/build_wasm.py` assembles this into static/decoder.js.
;;
;; An output pixel of an even row takes kernel rows 1 and 3 (of its own input row and of the row above), one of an
;; odd row takes rows 2 and 0 (its own and the row below); columns likewise. So $even_even is the sum of the kernel's
;; places (1,1), (1,3), (3,1), (3,3), and so on. A kernel has 16 floats: place (r,c) is at byte 16 r + 4 c.
(module
  (memory (import "m" "m") 1)
  (func (export "four")
      (param $n i32)      ;; input channels
      (param $k i32)      ;; address of the first input channel's kernel
      (param $step i32)   ;; bytes from one input channel's kernel to the next
      (param $x i32)      ;; address of the pixel left of the first one, in an image with a border of zeros
      (param $plane i32)  ;; bytes of such an image
      (param $wide i32)   ;; bytes of a row of it
      (param $bias f32)
      (param $y i32)      ;; where the 16 sums go
    (local $up i32) (local $down i32) (local $v v128)
    (local $even_even v128) (local $even_odd v128) (local $odd_even v128) (local $odd_odd v128)
    (local.set $even_even (f32x4.splat (local.get $bias)))
    (local.set $even_odd (local.get $even_even))
    (local.set $odd_even (local.get $even_even))
    (local.set $odd_odd (local.get $even_even))
    (loop $channel
      (local.set $up (i32.sub (local.get $x) (local.get $wide)))
      (local.set $down (i32.add (local.get $x) (local.get $wide)))
      (local.set $v (v128.load offset=0 (local.get $up)))
      (local.set $even_even (f32x4.add (local.get $even_even)
        (f32x4.mul (local.get $v) (v128.load32_splat offset=60 (local.get $k)))))
      (local.set $v (v128.load offset=4 (local.get $up)))
      (local.set $even_even (f32x4.add (local.get $even_even)
        (f32x4.mul (local.get $v) (v128.load32_splat offset=52 (local.get $k)))))
      (local.set $even_odd (f32x4.add (local.get $even_odd)
        (f32x4.mul (local.get $v) (v128.load32_splat offset=56 (local.get $k)))))
      (local.set $v (v128.load offset=8 (local.get $up)))
      (local.set $even_odd (f32x4.add (local.get $even_odd)
        (f32x4.mul (local.get $v) (v128.load32_splat offset=48 (local.get $k)))))
      (local.set $v (v128.load offset=0 (local.get $x)))
      (local.set $even_even (f32x4.add (local.get $even_even)
        (f32x4.mul (local.get $v) (v128.load32_splat offset=28 (local.get $k)))))
      (local.set $odd_even (f32x4.add (local.get $odd_even)
        (f32x4.mul (local.get $v) (v128.load32_splat offset=44 (local.get $k)))))
      (local.set $v (v128.load offset=4 (local.get $x)))
      (local.set $even_even (f32x4.add (local.get $even_even)
        (f32x4.mul (local.get $v) (v128.load32_splat offset=20 (local.get $k)))))
      (local.set $even_odd (f32x4.add (local.get $even_odd)
        (f32x4.mul (local.get $v) (v128.load32_splat offset=24 (local.get $k)))))
      (local.set $odd_even (f32x4.add (local.get $odd_even)
        (f32x4.mul (local.get $v) (v128.load32_splat offset=36 (local.get $k)))))
      (local.set $odd_odd (f32x4.add (local.get $odd_odd)
        (f32x4.mul (local.get $v) (v128.load32_splat offset=40 (local.get $k)))))
      (local.set $v (v128.load offset=8 (local.get $x)))
      (local.set $even_odd (f32x4.add (local.get $even_odd)
        (f32x4.mul (local.get $v) (v128.load32_splat offset=16 (local.get $k)))))
      (local.set $odd_odd (f32x4.add (local.get $odd_odd)
        (f32x4.mul (local.get $v) (v128.load32_splat offset=32 (local.get $k)))))
      (local.set $v (v128.load offset=0 (local.get $down)))
      (local.set $odd_even (f32x4.add (local.get $odd_even)
        (f32x4.mul (local.get $v) (v128.load32_splat offset=12 (local.get $k)))))
      (local.set $v (v128.load offset=4 (local.get $down)))
      (local.set $odd_even (f32x4.add (local.get $odd_even)
        (f32x4.mul (local.get $v) (v128.load32_splat offset=4 (local.get $k)))))
      (local.set $odd_odd (f32x4.add (local.get $odd_odd)
        (f32x4.mul (local.get $v) (v128.load32_splat offset=8 (local.get $k)))))
      (local.set $v (v128.load offset=8 (local.get $down)))
      (local.set $odd_odd (f32x4.add (local.get $odd_odd)
        (f32x4.mul (local.get $v) (v128.load32_splat offset=0 (local.get $k)))))
      (local.set $x (i32.add (local.get $x) (local.get $plane)))
      (local.set $k (i32.add (local.get $k) (local.get $step)))
      (br_if $channel (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
    ;; even and odd columns in turn
    (v128.store offset=0 (local.get $y)
      (i8x16.shuffle 0 1 2 3 16 17 18 19 4 5 6 7 20 21 22 23 (local.get $even_even) (local.get $even_odd)))
    (v128.store offset=16 (local.get $y)
      (i8x16.shuffle 8 9 10 11 24 25 26 27 12 13 14 15 28 29 30 31 (local.get $even_even) (local.get $even_odd)))
    (v128.store offset=32 (local.get $y)
      (i8x16.shuffle 0 1 2 3 16 17 18 19 4 5 6 7 20 21 22 23 (local.get $odd_even) (local.get $odd_odd)))
    (v128.store offset=48 (local.get $y)
      (i8x16.shuffle 8 9 10 11 24 25 26 27 12 13 14 15 28 29 30 31 (local.get $odd_even) (local.get $odd_odd)))))
